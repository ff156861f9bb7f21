"""Target masks at the three resolutions of the network's responses, and run-length encoding of masks."""

import warnings
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from einops import reduce
from jaxtyping import UInt8
from pycocotools import mask as coco

from data.letterbox import Letterbox

MEDIUM_CELL = 4
SMALL_CELL = 16


class RunLengths(TypedDict):
    """A mask in COCO's compressed run-length encoding; `size` is [height, width]."""

    size: list[int]
    counts: str


@dataclass(frozen=True)
class Pyramid:
    """One letterboxed mask (0 or 1) at full size, a quarter and a sixteenth of the size."""

    large: UInt8[np.ndarray, "l l"]
    medium: UInt8[np.ndarray, "m m"]
    small: UInt8[np.ndarray, "s s"]


def pyramid(mask: UInt8[np.ndarray, "h w"], box: Letterbox, threshold: float) -> Pyramid:
    """Return the letterboxed mask at three resolutions.

    A coarse cell is 1 if at least a share `threshold` (0 to 1) of its pixels is. Raises IndivisibleSize, WrongSize."""
    if box.size % SMALL_CELL:
        raise IndivisibleSize(f"masks of size {box.size}: expected a multiple of {SMALL_CELL}. Correct frames.size.")
    large = box.mask(mask)
    return Pyramid(large, _covered(large, MEDIUM_CELL, threshold), _covered(large, SMALL_CELL, threshold))


def encode_rle(mask: UInt8[np.ndarray, "h w"]) -> RunLengths:
    """Encode a mask in COCO's compressed run-length encoding."""
    encoded = coco.encode(np.asfortranarray(mask))
    return {"size": [int(length) for length in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def decode_rle(encoded: RunLengths) -> UInt8[np.ndarray, "h w"]:
    """Decode a mask (0 or 1) from COCO's compressed run-length encoding."""
    with warnings.catch_warnings():  # pycocotools 2.0 lacks NumPy 2's `copy` keyword
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return np.ascontiguousarray(coco.decode(encoded))


def _covered(mask: np.ndarray, cell: int, threshold: float) -> np.ndarray:
    pixels = reduce(mask.astype(np.int64), "(h y) (w x) -> h w", "sum", y=cell, x=cell)
    return (pixels >= threshold * cell**2).astype(np.uint8)


class IndivisibleSize(ValueError):
    """Raised if the size of the letterbox is not a multiple of the coarsest cell."""
