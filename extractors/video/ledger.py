"""The ledger: where each frame of a clip comes from, for an auditor to decode it again and compare."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
from jaxtyping import UInt8

_HEX_DIGITS = 16
_DECIMALS = 6  # of a second


@dataclass(frozen=True)
class ClipLedger:
    """For each frame of a clip the decoded index, from 0, its presentation time in seconds (NaN where the video has
    none) and the hash of its pixels as decoded; and how many frames at the left and the right repeat the edge frame."""

    indices: tuple[int, ...]
    seconds: tuple[float, ...]
    pixels: tuple[str, ...]
    left: int
    right: int

    def document(self) -> dict[str, Any]:
        """JSON-ready: indices, seconds (to the microsecond, null where unknown), pixels, padding ([left, right])."""
        return {
            "indices": list(self.indices),
            "seconds": [None if isnan(time) else round(time, _DECIMALS) for time in self.seconds],
            "pixels": list(self.pixels),
            "padding": [self.left, self.right],
        }


def clip_ledger(
    labelled_index: int, indices: Sequence[int], seconds: Mapping[int, float], pixels: Mapping[int, str]
) -> ClipLedger:
    """The ledger of the clip around a labelled index, from `extractors.video.decoder.clip_indices`; times and pixel
    hashes are
    given by decoded index."""
    start = labelled_index - len(indices) // 2
    return ClipLedger(
        indices=tuple(indices),
        seconds=tuple(seconds[index] for index in indices),
        pixels=tuple(pixels[index] for index in indices),
        left=sum(start + place < index for place, index in enumerate(indices)),
        right=sum(start + place > index for place, index in enumerate(indices)),
    )


def pixel_hash(frame: UInt8[np.ndarray, "h w 3"]) -> str:
    """The first 16 hex digits of SHA-256 over "<height>x<width>x3" and the RGB bytes, row by row."""
    digest = hashlib.sha256(f"{frame.shape[0]}x{frame.shape[1]}x3".encode())
    digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()[:_HEX_DIGITS]
