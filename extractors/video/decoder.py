"""Frames of videos: decoded from the start in a child process that can be killed, or read from PNG files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float64, UInt8

from extractors.video import png_folder, verification
from extractors.video.decoder_process import REMEDY, Answer, Crash, DecoderProcess
from extractors.video.failures import (
    DecoderDied,
    DecodersDisagree,
    DecodingTimedOut,
    FrameOutOfRange,
    MissingVideo,
    UnreadableVideo,
)
from extractors.video.ledger import pixel_hash

__all__ = [
    "Decoded",
    "Decoder",
    "DecoderDied",
    "DecodersDisagree",
    "DecodingTimedOut",
    "FrameOutOfRange",
    "MissingVideo",
    "UnreadableVideo",
    "clip_indices",
]


@dataclass(frozen=True)
class Decoded:
    """RGB frames in the order they were asked for, the number of frames that the whole video has, and for each frame
    its presentation time (NaN where the container has none, as for PNG files) and
    `extractors.video.ledger.pixel_hash`."""

    frames: UInt8[np.ndarray, "n h w 3"]
    count: int
    seconds: Float64[np.ndarray, " n"]
    pixels: tuple[str, ...]


def clip_indices(labelled_index: int, length: int, count: int) -> tuple[int, ...]:
    """The `length` decoded indices around a labelled one, from labelled_index - length // 2 on.

    Before the first and after the last of `count` frames the edge frame repeats. Raises FrameOutOfRange where the
    labelled index itself is outside."""
    if not 0 <= labelled_index < count:
        raise FrameOutOfRange(f"labelled frame {labelled_index + 1}, but the video has {count} frames")
    start = labelled_index - length // 2
    return tuple(min(max(index, 0), count - 1) for index in range(start, start + length))


class Decoder:
    """A context that decodes videos, one after the other, in a child process of its own session.

    The child is started at the first need, killed when it exceeds its time limit, and then started anew. It takes about
    150 MB and half a second to start: keep one for many videos."""

    def __init__(self) -> None:
        self._process: DecoderProcess | None = None

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def clips(self, path: Path, wanted: Sequence[int], limit_seconds: float) -> Decoded:
        """The frames at those indices, from 0, in any order, also repeated, of a video file or a folder of PNG files.

        decord decodes all frames, from the start. There must be as many as PyAV sees packets, none repeated, and the
        first must be the same by both; without wanted frames, PyAV decodes and counts. Memory grows with the wanted
        frames alone. Raises MissingVideo, UnreadableVideo, FrameOutOfRange, DecodersDisagree, DecoderDied and
        DecodingTimedOut; `limit_seconds` is for reading the video once, twice only where something is wrong."""
        _check(path, wanted)
        if path.is_dir():
            frames, count = png_folder.read(path, wanted)
            return Decoded(frames, count, np.full(len(wanted), np.nan), tuple(pixel_hash(frame) for frame in frames))
        answer = self._decode(path, wanted, limit_seconds, False)
        if answer.differs:
            self.verify(path, wanted, answer.frames, limit_seconds)
            raise DecodersDisagree(f"{path}: decord's frame 1 is not PyAV's. {REMEDY}", None)
        return Decoded(answer.frames, answer.count, np.array(answer.seconds, np.float64), answer.pixels)

    def verify(
        self, path: Path, wanted: Sequence[int], frames: UInt8[np.ndarray, "n h w 3"], limit_seconds: float
    ) -> None:
        """Decodes again by PyAV, also PNG files, and compares all frames, pixel for pixel.

        Raises DecodersDisagree, which names the offset that explains the difference, and what `clips` raises."""
        _check(path, wanted)
        given = dict(zip(wanted, frames, strict=True))
        indices = sorted(given)
        again = self._decode(path, indices, limit_seconds, True)
        if not all(map(verification.equal, (given[index] for index in indices), again.frames)):
            near = verification.neighbours(indices, again.count)
            by_pyav = self._decode(path, near, limit_seconds, True).frames
            raise verification.disagreement(path, given, dict(zip(near, by_pyav, strict=True)))

    def close(self) -> None:
        """Ends the child process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    @property
    def process_id(self) -> int | None:
        """The process id of the child, None where none runs."""
        return None if self._process is None else self._process.process.pid

    def _decode(self, path: Path, wanted: Sequence[int], limit_seconds: float, with_pyav: bool) -> Answer:
        for _ in range(2):  # a crash may be chance
            try:
                return self._started().decode(path, wanted, limit_seconds, with_pyav)
            except (UnreadableVideo, FrameOutOfRange):  # answers, or the child is dead
                raise
            except Crash as error:
                self.close()
                crash = error
            except BaseException:
                self.close()
                raise
        raise UnreadableVideo(f"{path}: the decoder crashed on it twice ({crash}). {REMEDY}")

    def _started(self) -> DecoderProcess:
        if self._process is None or self._process.process.poll() is not None:
            self.close()
            self._process = DecoderProcess()
            self._process.wait_until_ready()
        return self._process


def _check(path: Path, wanted: Sequence[int]) -> None:
    if wanted and min(wanted) < 0:
        raise FrameOutOfRange(f"{path}: frame index {min(wanted)}; indices count from 0")
    if not path.is_dir() and not path.is_file():
        raise MissingVideo(f"no video {path}. Fetch it, or list it in [dataset].exclude with a reason.")
