"""Reading of videos that are folders of PNG or JPEG files (see `data.readers.picture_folder` for their order)."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from data.readers.annotations import MalformedAnnotations
from data.readers.picture_folder import pictures
from data.wording import counted
from extractors.video.failures import FrameOutOfRange, UnreadableVideo

_PNG, _JPEG, _JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd9"
_REMEDY = "Unpack the folder again."


def read(folder: Path, wanted: Sequence[int]) -> tuple[UInt8[np.ndarray, "n h w 3"], int]:
    """Read the RGB images at the indices `wanted`, and return them with the number of images in the folder.

    Indices count from 0, in any order, and may repeat. Grey images become RGB; transparency is ignored. Only the wanted
    images and the first one are opened. Raises UnreadableVideo if a number is missing or an image is damaged (by the
    checksums of a PNG, or the end of a JPEG), has 16 bits per channel or another size; FrameOutOfRange."""
    files = listed(folder)
    if wanted and max(wanted) >= len(files):
        raise FrameOutOfRange(
            f"{folder}: frame {max(wanted) + 1} is wanted, but the video has {counted(len(files), 'frame')}. {_REMEDY}"
        )
    first = _image(files[0])
    images = {0: first}
    for index in set(wanted) - {0}:
        images[index] = _image(files[index])
        if images[index].shape != first.shape:
            raise UnreadableVideo(
                f"{files[index]}: shape {images[index].shape}, but {files[0].name} has {first.shape}. {_REMEDY}"
            )
    frames = np.empty((len(wanted), *first.shape), np.uint8)
    for place, index in enumerate(wanted):
        frames[place] = images[index]
    return frames, len(files)


def listed(folder: Path) -> list[Path]:
    """Return the pictures of a folder in the order of the frames, one or more. Raises UnreadableVideo."""
    try:
        files = pictures(folder)
    except MalformedAnnotations as error:
        raise UnreadableVideo(str(error)) from None
    if not files:
        raise UnreadableVideo(f"{folder}: 0 images, but no 00001.png or other picture. {_REMEDY}")
    return files


def _image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    content = path.read_bytes()
    kind, fault_of = ("PNG", _png_fault) if path.suffix.lower() == ".png" else ("JPEG", _jpeg_fault)
    fault = fault_of(content)
    image = (
        None
        if fault
        else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    )
    if image is None:
        raise UnreadableVideo(f"{path}: not a whole {kind} image{fault}. {_REMEDY}")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _jpeg_fault(content: bytes) -> str:
    """Return what is wrong with a JPEG file, or ""; OpenCV decodes a part of one without an error."""
    if not content.startswith(_JPEG):
        return " (it does not begin as one)"
    whole = content.rstrip(b"\0").endswith(_JPEG_END)
    return "" if whole else f" ({counted(len(content), 'byte')}, and its end is missing)"


def _png_fault(content: bytes) -> str:
    """Return what is wrong with the chunks of a PNG file, or ""; OpenCV decodes damaged images without an error."""
    if not content.startswith(_PNG):
        return " (it does not begin as one)"
    start, name = len(_PNG), b""
    while name != b"IEND":
        if start + 12 > len(content):
            return f" ({counted(len(content), 'byte')}, and its end is missing)"
        length, name = struct.unpack(">I4s", content[start : start + 8])
        body, end = content[start + 4 : start + 8 + length], start + 12 + length
        if end > len(content):
            return f" ({counted(len(content), 'byte')}, and its end is missing)"
        if zlib.crc32(body) != int.from_bytes(content[end - 4 : end], "big"):
            return f" (the checksum at byte {end - 4} is wrong)"
        if name == b"IHDR" and len(body) > 12 and body[12] == 16:
            return " of 8 bits a channel, but of 16"
        start = end
    return ""
