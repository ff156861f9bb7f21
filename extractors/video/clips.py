"""The clips of one video: the frames around each labelled frame, decoded once for all clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from extractors.video.decoder import Decoded, Decoder, clip_indices
from extractors.video.decoder_process import REMEDY
from extractors.video.failures import FrameOutOfRange, FrameSizeMismatch
from extractors.video.ledger import ClipLedger, clip_ledger


@dataclass(frozen=True)
class Source:
    """A video to decode. `frames` is the declared number of frames, 0 if unknown; only the first `last` frames are
    used, or all if `last` is 0."""

    id: str
    path: Path
    height: int
    width: int
    frames: int
    last: int
    labelled: tuple[int, ...]  # counted from 1


@dataclass(frozen=True)
class Clips:
    """The decoded clips of one video.

    `decoded` holds the frames with the increasing indices `wanted`, including the frame after each clip. `indices` maps
    each labelled number to the frame indices of its clip, among the first `usable` frames. `rules` are the rules of
    `data.defects` that the video matches."""

    decoded: Decoded
    wanted: tuple[int, ...]
    indices: Mapping[int, tuple[int, ...]]
    usable: int
    rules: tuple[str, ...]

    def frames(self, number: int) -> list[UInt8[np.ndarray, "h w 3"]]:
        """Return the frames (RGB) of the clip around a labelled frame, with edge frames of the video repeated."""
        place = {index: position for position, index in enumerate(self.wanted)}
        return [self.decoded.frames[place[index]] for index in self.indices[number]]

    def following(self, number: int) -> UInt8[np.ndarray, "h w 3"] | None:
        """Return the frame (RGB) after the clip around a labelled frame; None if the video ends with the clip."""
        after = self.indices[number][-1] + 1
        return self.decoded.frames[self.wanted.index(after)] if after < self.usable else None

    def ledger(self, number: int) -> ClipLedger:
        """Return the ledger of the clip around a labelled frame."""
        seconds = dict(zip(self.wanted, self.decoded.seconds.tolist(), strict=True))
        pixels = dict(zip(self.wanted, self.decoded.pixels, strict=True))
        return clip_ledger(number - 1, self.indices[number], seconds, pixels)


def decode(decoder: Decoder, video: Source, length: int, limit_seconds: float, verify: bool) -> Clips:
    """Decode a video once for the clips of all its labelled frames; twice if the number of frames is not as declared.

    With `verify`, all wanted frames are also decoded by the second decoder, PyAV, and must be equal.
    Raises FrameOutOfRange, FrameSizeMismatch and the errors of `Decoder.clips`."""
    usable = video.frames
    for _ in range(2):
        try:
            indices = _indices(video, length, usable)
            wanted = tuple(sorted({index for clip in indices.values() for index in _with_following(clip, usable)}))
            decoded = decoder.clips(video.path, wanted, limit_seconds)
        except FrameOutOfRange:
            count = decoder.clips(video.path, (), limit_seconds).count
        else:
            count = decoded.count
        found = min(count, video.last or count)
        if found == usable:
            _check_size(video, decoded.frames)
            if verify:
                decoder.verify(video.path, wanted, decoded.frames, limit_seconds)
            return Clips(decoded, wanted, indices, usable, _rules(video, count))
        usable = found
    _indices(video, length, usable)
    raise FrameOutOfRange(f"video {video.id}: its frame count changed while it was read ({video.path}); run again")


def _indices(video: Source, length: int, count: int) -> dict[int, tuple[int, ...]]:
    try:
        return {number: clip_indices(number - 1, length, count) for number in video.labelled}
    except FrameOutOfRange as error:
        raise FrameOutOfRange(f"video {video.id}: {error} ({video.path}). {REMEDY}") from None


def _with_following(clip: tuple[int, ...], usable: int) -> tuple[int, ...]:
    after = clip[-1] + 1
    return (*clip, after) if after < usable else clip


def _rules(video: Source, count: int) -> tuple[str, ...]:
    """Return the rules that the number of frames matches; for folders of pictures the listing reports them."""
    if count == video.frames or not video.frames or video.path.is_dir():
        return ()
    return ("beyond_last_mask" if video.last else "frame_count",)


def _check_size(video: Source, frames: Sequence[np.ndarray] | np.ndarray) -> None:
    found, declared = frames[0].shape[:2], (video.height, video.width)
    if found != declared:
        raise FrameSizeMismatch(
            f"video {video.id}: its frames are {found[0]} x {found[1]}, but the data set declares {declared[0]} x"
            f" {declared[1]} (height x width; {video.path}). {REMEDY}"
        )
