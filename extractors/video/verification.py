"""Comparison of the frames of the two decoders, and search for the index offset that explains a difference."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from extractors.video.failures import DecodersDisagree

REACH = 3  # the largest offset, in frames, that is tried in both directions

Frame = UInt8[np.ndarray, "_ _ 3"]


def equal(frame: Frame, other: Frame) -> bool:
    """Return whether two frames have the same size and the same pixels.

    No tolerance is needed, since both decoders' frames are converted to RGB in the same way; see docs/decoding.md."""
    return frame.shape == other.shape and bool((frame == other).all())


def neighbours(wanted: Sequence[int], count: int) -> list[int]:
    """Return the sorted indices within REACH of the wanted ones, among `count` frames."""
    near = {index + offset for index in wanted for offset in range(-REACH, REACH + 1)}
    return sorted(index for index in near if 0 <= index < count)


def disagreement(path: Path, frames: Mapping[int, Frame], by_pyav: Mapping[int, Frame]) -> DecodersDisagree:
    """Return an error that names decord's first wrong frame and the offset that explains it and all later ones.

    `frames` maps indices to decord's frames. `by_pyav` maps indices to PyAV's frames, with the neighbours of all in
    `frames`."""
    first = min(index for index in frames if not equal(frames[index], by_pyav[index]))
    later = {index: frame for index, frame in frames.items() if index >= first}
    offset = next((offset for offset in _offsets() if _explains(offset, later, by_pyav)), None)
    if offset is None:
        told = f"is not PyAV's: {_extent(frames[first], by_pyav[first])}, and no offset up to {REACH} explains it"
    else:
        others = f", and so on for all {len(later)} compared from there" if len(later) > 1 else ""
        told = f"is PyAV's frame {first + 1 + offset}{others} (offset {offset:+d})"
    return DecodersDisagree(
        f"{path}: decord's frame {first + 1} {told}. Encode the video anew (ffmpeg -i OLD NEW), fetch it again or "
        "list it in [dataset].exclude with a reason.",
        offset,
    )


def _offsets() -> list[int]:
    return [sign * distance for distance in range(1, REACH + 1) for sign in (1, -1)]


def _explains(offset: int, frames: Mapping[int, Frame], by_pyav: Mapping[int, Frame]) -> bool:
    shifted = {index: by_pyav.get(index + offset) for index in frames}
    if shifted[min(frames)] is None:
        return False
    return all(other is None or equal(frames[index], other) for index, other in shifted.items())


def _extent(frame: Frame, other: Frame) -> str:
    if frame.shape != other.shape:
        return f"it is {frame.shape[0]} x {frame.shape[1]}, not {other.shape[0]} x {other.shape[1]}"
    differences = np.abs(frame.astype(np.int16) - other)
    share = (differences.max(axis=2) > 0).mean()
    return f"{share:.1%} of its pixels differ, by up to {differences.max()} of 255"
