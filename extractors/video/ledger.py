"""The ledger: the origin of each frame of a clip, with which the clip can be decoded again and compared."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
from jaxtyping import UInt8

_HEX_DIGITS = 16
_DECIMALS = 6  # decimal places of a second


@dataclass(frozen=True)
class ClipLedger:
    """The origin of the frames of a clip.

    For each frame it holds the decoded index (from 0), the presentation time in seconds (NaN if the video has none) and
    the hash of the decoded pixels. `left` and `right` count the frames that repeat the edge frame at each end."""

    indices: tuple[int, ...]
    seconds: tuple[float, ...]
    pixels: tuple[str, ...]
    left: int
    right: int

    def document(self) -> dict[str, Any]:
        """Return a JSON object: indices, seconds (rounded to microseconds, null if unknown), pixels, padding."""
        return {
            "indices": list(self.indices),
            "seconds": [None if isnan(time) else round(time, _DECIMALS) for time in self.seconds],
            "pixels": list(self.pixels),
            "padding": [self.left, self.right],
        }


def clip_ledger(
    labelled_index: int, indices: Sequence[int], seconds: Mapping[int, float], pixels: Mapping[int, str]
) -> ClipLedger:
    """Return the ledger of the clip with the decoded `indices` around a labelled index.

    `indices` come from `extractors.video.decoder.clip_indices`; `seconds` and `pixels` are given by decoded index."""
    start = labelled_index - len(indices) // 2
    return ClipLedger(
        indices=tuple(indices),
        seconds=tuple(seconds[index] for index in indices),
        pixels=tuple(pixels[index] for index in indices),
        left=sum(start + place < index for place, index in enumerate(indices)),
        right=sum(start + place > index for place, index in enumerate(indices)),
    )


def pixel_hash(frame: UInt8[np.ndarray, "h w 3"]) -> str:
    """Return the first 16 hex digits of the SHA-256 of "<height>x<width>x3" and the RGB bytes, row by row."""
    digest = hashlib.sha256(f"{frame.shape[0]}x{frame.shape[1]}x3".encode())
    digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()[:_HEX_DIGITS]
