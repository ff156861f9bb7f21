"""Decoding of video frames from the start, in a child process that can be killed; reading of PNG folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float64, UInt8

from data.wording import counted
from extractors.video import picture_folder, verification
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
    """RGB frames in the requested order, and the number of frames of the whole video.

    For each frame, `seconds` is its presentation time (NaN if the container has none, and for PNG files) and `pixels`
    its `extractors.video.ledger.pixel_hash`."""

    frames: UInt8[np.ndarray, "n h w 3"]
    count: int
    seconds: Float64[np.ndarray, " n"]
    pixels: tuple[str, ...]


def clip_indices(labelled_index: int, length: int, count: int) -> tuple[int, ...]:
    """Return the `length` decoded indices around a labelled index, beginning with labelled_index - length // 2.

    Indices before the first or after the last of `count` frames are replaced by the edge frame's.
    Raises FrameOutOfRange if the labelled index itself is outside."""
    if not 0 <= labelled_index < count:
        raise FrameOutOfRange(f"labelled frame {labelled_index + 1}, but the video has {counted(count, 'frame')}")
    start = labelled_index - length // 2
    return tuple(min(max(index, 0), count - 1) for index in range(start, start + length))


class Decoder:
    """A context manager that decodes videos one after the other in a child process with a session of its own.

    The child process starts when it is first needed. It is killed if it exceeds its time limit, and then restarted. It
    takes about 150 MB and half a second to start, so use one decoder for many videos."""

    def __init__(self) -> None:
        self._process: DecoderProcess | None = None

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def clips(self, path: Path, wanted: Sequence[int], limit_seconds: float) -> Decoded:
        """Decode the frames at the indices `wanted` of a video file or a folder of pictures.

        Indices count from 0, in any order, and may repeat. decord decodes all frames from the start. Their number must
        equal PyAV's number of packets, none may be repeated, and the first must be equal to PyAV's. If `wanted` is
        empty, PyAV decodes and counts the frames. Memory grows only with the wanted frames. `limit_seconds` limits one
        request to the child process, which decodes the video once, or twice if decord fails. Raises MissingVideo,
        UnreadableVideo, FrameOutOfRange, DecodersDisagree, DecoderDied and DecodingTimedOut."""
        _check(path, wanted)
        if path.is_dir():
            frames, count = picture_folder.read(path, wanted)
            return Decoded(frames, count, np.full(len(wanted), np.nan), tuple(pixel_hash(frame) for frame in frames))
        answer = self._decode(path, wanted, limit_seconds, False)
        if answer.differs:
            self.verify(path, wanted, answer.frames, limit_seconds)
            raise DecodersDisagree(f"{path}: decord's frame 1 is not PyAV's. {REMEDY}", None)
        return Decoded(answer.frames, answer.count, np.array(answer.seconds, np.float64), answer.pixels)

    def verify(
        self, path: Path, wanted: Sequence[int], frames: UInt8[np.ndarray, "n h w 3"], limit_seconds: float
    ) -> None:
        """Decode the frames again with PyAV, including PNG files, and compare them pixel by pixel.

        JPEG files are left out, since decoders of JPEG may differ in the last bit.
        Raises DecodersDisagree, which names the offset that explains the difference, and the errors of `clips`."""
        _check(path, wanted)
        if path.is_dir() and any(file.suffix.lower() != ".png" for file in picture_folder.listed(path)):
            return
        given = dict(zip(wanted, frames, strict=True))
        indices = sorted(given)
        again = self._decode(path, indices, limit_seconds, True)
        if not all(map(verification.equal, (given[index] for index in indices), again.frames)):
            near = verification.neighbours(indices, again.count)
            by_pyav = self._decode(path, near, limit_seconds, True).frames
            raise verification.disagreement(path, given, dict(zip(near, by_pyav, strict=True)))

    def close(self) -> None:
        """End the child process, if it is running."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    @property
    def process_id(self) -> int | None:
        """The process id of the child process; None if it is not running."""
        return None if self._process is None else self._process.process.pid

    def _decode(self, path: Path, wanted: Sequence[int], limit_seconds: float, with_pyav: bool) -> Answer:
        for _ in range(2):  # a crash may be transient
            try:
                return self._started().decode(path, wanted, limit_seconds, with_pyav)
            except (UnreadableVideo, FrameOutOfRange):  # the child process can go on, or has been killed
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
