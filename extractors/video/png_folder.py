"""Reading of videos that are folders of PNG files, beginning with 00001.png, like those of J-HMDB."""

import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from data.wording import counted
from extractors.video.failures import FrameOutOfRange, UnreadableVideo

_NAME = re.compile(r"([0-9]{5})\.png")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_REMEDY = "Unpack the folder again."


def read(folder: Path, wanted: Sequence[int]) -> tuple[UInt8[np.ndarray, "n h w 3"], int]:
    """Read the RGB images at the indices `wanted`, and return them with the number of images in the folder.

    Indices count from 0, in any order, and may repeat. Grey images become RGB; transparency is ignored. Only the wanted
    images and the first one are opened. Raises UnreadableVideo if a number is missing or an image is damaged (by its
    checksums), has 16 bits per channel or another size; FrameOutOfRange."""
    numbers = sorted(int(match[1]) for entry in folder.iterdir() if (match := _NAME.fullmatch(entry.name)))
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        missing = min(set(range(1, len(numbers) + 2)) - set(numbers))
        raise UnreadableVideo(f"{folder}: {counted(len(numbers), 'image')}, but no {missing:05d}.png. {_REMEDY}")
    if wanted and max(wanted) >= len(numbers):
        raise FrameOutOfRange(
            f"{folder}: frame {max(wanted) + 1} is wanted, but the video has"
            f" {counted(len(numbers), 'frame')}. {_REMEDY}"
        )
    first = _image(folder / "00001.png")
    images = {0: first}
    for index in set(wanted) - {0}:
        path = folder / f"{index + 1:05d}.png"
        images[index] = _image(path)
        if images[index].shape != first.shape:
            raise UnreadableVideo(f"{path}: shape {images[index].shape}, but 00001.png has {first.shape}. {_REMEDY}")
    frames = np.empty((len(wanted), *first.shape), np.uint8)
    for place, index in enumerate(wanted):
        frames[place] = images[index]
    return frames, len(numbers)


def _image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    content = path.read_bytes()
    fault = _fault(content)
    image = (
        None
        if fault
        else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    )
    if image is None:
        raise UnreadableVideo(f"{path}: not a whole PNG image{fault}. {_REMEDY}")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _fault(content: bytes) -> str:
    """Return what is wrong with the chunks of a PNG file, or ""; OpenCV decodes damaged images without an error."""
    if not content.startswith(_SIGNATURE):
        return " (it does not begin as one)"
    start, name = len(_SIGNATURE), b""
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
