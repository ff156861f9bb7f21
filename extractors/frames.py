"""Frames of videos: decoded from the start in a child process that can be killed, or read from PNG files."""

import json
import logging
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import cv2
import numpy as np
from jaxtyping import UInt8

from extractors import decoding

_START_SECONDS = 120.0  # to load decord; a second where the disk is warm
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
_PNG = re.compile(r"([0-9]{5})\.png")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """RGB frames in the order they were asked for, and the number of frames that the whole video has."""

    frames: UInt8[np.ndarray, "n h w 3"]
    count: int


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
    400 MB and a second to start, most of it decord's: keep one for many videos."""

    def __init__(self) -> None:
        self._child: _Child | None = None

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def clips(self, path: Path, wanted: Sequence[int], limit_seconds: float) -> Decoded:
        """The frames at those indices, from 0, in any order, also repeated, of a video file or a folder of PNG files.

        The whole video is decoded to count its frames; memory grows with the wanted frames alone. Raises MissingVideo,
        UnreadableVideo, FrameOutOfRange, DecodingTimedOut (`limit_seconds` for the whole call), DecoderDied."""
        if wanted and min(wanted) < 0:
            raise FrameOutOfRange(f"{path}: frame index {min(wanted)}; indices count from 0")
        if path.is_dir():
            return _images(path, wanted)
        if not path.is_file():
            raise MissingVideo(f"no video {path}. Fetch it, or list it in [dataset].exclude with a reason.")
        try:
            return self._started().decode(path, wanted, limit_seconds)
        except (UnreadableVideo, FrameOutOfRange):  # answers, or the child is dead
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the child process, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    @property
    def child(self) -> int | None:
        """The process id of the child, None where none runs."""
        return None if self._child is None else self._child.process.pid

    def _started(self) -> "_Child":
        if self._child is None or self._child.process.poll() is not None:
            self.close()
            self._child = _Child()
            self._child.wait_until_ready()
        return self._child


class _Child:
    def __init__(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in kill()
        self.process = subprocess.Popen(
            [sys.executable, "-P", decoding.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            bufsize=0,
        )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)

    def wait_until_ready(self) -> None:
        self._message("the decoder's start", time.monotonic() + _START_SECONDS, _START_SECONDS)

    def decode(self, path: Path, wanted: Sequence[int], limit_seconds: float) -> Decoded:
        deadline, places = time.monotonic() + limit_seconds, _places(wanted)
        request = {"path": str(path.absolute()), "wanted": sorted(places), "limit_seconds": limit_seconds}
        self._request(str(path), request)
        found = self._message(str(path), deadline, limit_seconds)
        if wanted and max(wanted) >= found["count"]:
            self._message(str(path), deadline, limit_seconds)  # "done"
            raise _out_of_range(path, wanted, found["count"])
        frames = np.empty((len(wanted), found["height"], found["width"], 3), np.uint8)
        while "frame" in (message := self._message(str(path), deadline, limit_seconds)):
            first, *others = places.pop(message["frame"])
            self._read(str(path), memoryview(frames[first]).cast("B"), deadline, limit_seconds)
            frames[others] = frames[first]
        if places:
            raise UnreadableVideo(f"{path}: the decoder left out frame {min(places) + 1}. Report this.")
        return Decoded(frames, found["count"])

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._selector.close()
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            if pipe is not None:
                pipe.close()

    @property
    def _answers(self) -> IO[bytes]:
        if self.process.stdout is None:
            raise DecoderDied("the decoder has no standard output. Report this.")
        return self.process.stdout

    def _request(self, name: str, request: dict[str, Any]) -> None:
        if self.process.stdin is None:
            raise DecoderDied("the decoder has no standard input. Report this.")
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise self._death(name) from None

    def _message(self, name: str, deadline: float, limit_seconds: float) -> dict[str, Any]:
        length = bytearray(decoding.HEADER_BYTES)
        self._read(name, memoryview(length), deadline, limit_seconds)
        encoded = bytearray(int.from_bytes(length, "big"))
        self._read(name, memoryview(encoded), deadline, limit_seconds)
        message: dict[str, Any] = json.loads(encoded)
        if "unreadable" in message:
            if not message["reusable"]:
                self.kill()
            raise UnreadableVideo(
                f"{name}: {message['unreadable']}. Fetch it again or list it in [dataset].exclude with a reason."
            )
        if "broken" in message:
            raise DecoderDied(f"the decoder does not start ({message['broken']}). Install decord2 and av.")
        return message

    def _read(self, name: str, view: memoryview, deadline: float, limit_seconds: float) -> None:
        while view:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                _log.warning("killing the decoder (process %d) over %s", self.process.pid, name)
                raise _timed_out(name, limit_seconds)
            received = os.readv(self._answers.fileno(), [view])
            if not received:
                raise self._death(name, limit_seconds)
            view = view[received:]

    def _death(self, name: str, limit_seconds: float = 0.0) -> Exception:
        code = self.process.wait()
        if -code == signal.SIGALRM:
            return _timed_out(name, limit_seconds)
        if -code in _CRASHES:
            return UnreadableVideo(
                f"{name}: the decoder crashed on it ({signal.Signals(-code).name}). "
                "Fetch it again or list it in [dataset].exclude with a reason."
            )
        self._errors.seek(0)
        said = self._errors.read()[-500:].decode(errors="replace").strip()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return DecoderDied(
            f"{name}: the decoder ended by {cause}. {said or 'Look for lack of memory, then run again.'}"
        )


def _timed_out(name: str, limit_seconds: float) -> "DecodingTimedOut":
    return DecodingTimedOut(
        f"{name}: not decoded within {limit_seconds:g} s. Raise frames.limit_seconds, or, where the file is damaged, "
        "fetch it again or list it in [dataset].exclude with a reason."
    )


def _places(wanted: Sequence[int]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for place, index in enumerate(wanted):
        places.setdefault(index, []).append(place)
    return places


def _out_of_range(path: Path, wanted: Sequence[int], count: int) -> "FrameOutOfRange":
    return FrameOutOfRange(
        f"{path}: frame {max(wanted) + 1} is wanted, but the video has {count} frames. "
        "Fetch it again or list it in [dataset].exclude with a reason."
    )


def _images(folder: Path, wanted: Sequence[int]) -> Decoded:
    numbers = sorted(int(match[1]) for entry in folder.iterdir() if (match := _PNG.fullmatch(entry.name)))
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        missing = min(set(range(1, len(numbers) + 2)) - set(numbers))
        raise UnreadableVideo(f"{folder}: {len(numbers)} images, but no {missing:05d}.png. Unpack the folder again.")
    if wanted and max(wanted) >= len(numbers):
        raise _out_of_range(folder, wanted, len(numbers))
    places = _places(wanted)
    first = _image(folder / "00001.png")
    frames = np.empty((len(wanted), *first.shape), np.uint8)
    for index, (place, *others) in sorted(places.items()):
        path = folder / f"{index + 1:05d}.png"
        image = _image(path)
        if image.shape != first.shape:
            raise UnreadableVideo(f"{path}: shape {image.shape}, but 00001.png has {first.shape}. Unpack it again.")
        frames[[place, *others]] = image
    return Decoded(frames, len(numbers))


def _image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    image = cv2.imdecode(np.frombuffer(path.read_bytes() or b"\0", np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise UnreadableVideo(f"{path}: not a whole PNG image. Unpack it again.")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


class MissingVideo(FileNotFoundError):
    """Neither a file nor a folder."""


class UnreadableVideo(RuntimeError):
    """A video that does not decode as what it claims to be."""


class FrameOutOfRange(ValueError):
    """A frame before the first or after the last."""


class DecodingTimedOut(RuntimeError):
    """A video that was not decoded within its time limit."""


class DecoderDied(RuntimeError):
    """The decoding process ended for a reason that does not lie in the video."""
