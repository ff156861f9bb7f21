"""Masks of instances in pictures whose pixel value is the number of the instance, or in COCO's run lengths."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from data.readers.annotations import MalformedAnnotations, MaskSizeMismatch, MissingFile
from data.run_lengths import WrongRuns, checked_runs, mask_of_runs

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">8s4x4sIIBB")  # signature, "IHDR", width, height, bits, colour type
_GREY, _INDEXED = 0, 3
_KINDS = {2: "RGB", 4: "grey with transparency", 6: "RGB with transparency"}


def png_size(path: Path) -> tuple[int, int]:
    """Return the height and width of an indexed or grey PNG file; only its header is read.

    Raises MissingFile; MalformedAnnotations if the file is no PNG, or one of colours instead of numbers."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
    except OSError as error:
        raise MissingFile(f"{path} cannot be read ({error.strerror}). Put it there again.") from None
    if len(header) < _HEADER.size or not header.startswith(_SIGNATURE):
        raise MalformedAnnotations(f"{path}: not a PNG file. Write the masks as PNG, since JPEG changes the numbers.")
    _, name, width, height, _, colour = _HEADER.unpack(header)
    if name != b"IHDR" or 0 in (width, height):
        raise MalformedAnnotations(f"{path}: a PNG file without a size. Write it again.")
    if colour not in (_GREY, _INDEXED):
        raise MalformedAnnotations(
            f"{path}: its pixels are {_KINDS.get(colour, 'of no known kind')}; expected an indexed or grey PNG file"
            " whose pixel values are the numbers of the instances. Convert it."
        )
    return height, width


def picture_size(path: Path) -> tuple[int, int]:
    """Return the height and width of a picture; only its header is read. Raises MalformedAnnotations."""
    from PIL import Image  # imported here, so that processes that only list videos do not load it

    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except (OSError, SyntaxError, ValueError) as error:
        raise MalformedAnnotations(f"{path}: a damaged picture ({error}). Unpack it again.") from None


def read_png(path: Path, height: int, width: int) -> Shaped[np.ndarray, "h w"]:
    """Return the numbers in a PNG file of the given size, 0 for the background.

    Raises MissingFile, MalformedAnnotations, MaskSizeMismatch."""
    from PIL import Image  # imported here, so that processes that only list videos do not load it

    check_size(path, png_size(path), height, width)
    try:
        with Image.open(path) as picture:
            numbers = np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise MalformedAnnotations(f"{path}: a damaged PNG file ({error}). Write it again.") from None
    if numbers.dtype == np.bool_:
        numbers = numbers.astype(np.uint8)
    if numbers.ndim != 2 or numbers.dtype.kind not in "iu":
        raise MalformedAnnotations(f"{path}: pixels of type {numbers.dtype}; expected whole numbers. Convert it.")
    return numbers


def split(numbers: Shaped[np.ndarray, "h w"]) -> tuple[UInt8[np.ndarray, "n h w"], tuple[int, ...]]:
    """Return a mask (0 or 1) of each number but 0, and the numbers in ascending order."""
    ids = [int(number) for number in np.unique(numbers) if number]
    masks = np.zeros((len(ids), *numbers.shape), np.uint8)
    for row, number in enumerate(ids):
        masks[row] = numbers == number
    return masks, tuple(ids)


def check_size(where: object, found: tuple[int, int], height: int, width: int) -> None:
    """Raise MaskSizeMismatch unless a mask has the size of its video."""
    if found != (height, width):
        raise MaskSizeMismatch(
            f"{where}: a mask of {found[0]} x {found[1]}, but the video is {height} x {width} (height x width). Make"
            " them equal, or list the video in [dataset].exclude with a reason."
        )


def rle_size(where: str, encoded: Any) -> tuple[int, int]:
    """Return the height and width of COCO's run lengths. Raises MalformedAnnotations."""
    size = encoded.get("size") if isinstance(encoded, dict) else None
    if not isinstance(size, list) or [type(length) for length in size] != [int, int] or min(size) < 1:
        raise MalformedAnnotations(f"{where}: size = {size!r}; expected [height, width] of COCO's run lengths.")
    return size[0], size[1]


def decoded(where: str, encoded: Any, height: int, width: int) -> UInt8[np.ndarray, "h w"]:
    """Return the mask of COCO's run lengths, which must have the given size.

    Raises MalformedAnnotations, MaskSizeMismatch; their messages begin with `where`."""
    check_size(where, rle_size(where, encoded), height, width)
    try:
        runs = checked_runs(encoded.get("counts"), height, width)
    except WrongRuns as error:
        raise MalformedAnnotations(f"{where}: counts: {error}. Write it again.") from None
    return mask_of_runs(runs, height, width)


def stacked(masks: Iterable[UInt8[np.ndarray, "h w"]], height: int, width: int) -> UInt8[np.ndarray, "n h w"]:
    """Return masks as one array, which may be empty."""
    found = list(masks)
    return np.stack(found) if found else np.zeros((0, height, width), np.uint8)
