"""The parent's side of the decoding child process: it starts the child, sends requests and kills it at a time limit."""

import fcntl
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import UInt8

from data.wording import counted
from extractors.video import decoder_worker
from extractors.video.failures import DecoderDied, DecodingTimedOut, FrameOutOfRange, UnreadableVideo
from extractors.video.ledger import pixel_hash

_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 120.0  # for loading decord, which takes a second if the files are cached
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
_PIPE_BYTES = 1 << 20  # the maximum without privileges; takes half the time of the default, 64 KiB
# Keeps glibc from mapping and unmapping the memory of every single frame, which the kernel clears each time.
_ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
REMEDY = "Fetch it again or list it in [dataset].exclude with a reason."

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """Frames, their times in seconds (None if unknown) and pixel hashes in the requested order, the number of frames of
    the whole video, and whether the first frames of the two decoders differ."""

    frames: UInt8[np.ndarray, "n h w 3"]
    seconds: tuple[float | None, ...]
    pixels: tuple[str, ...]
    count: int
    differs: bool


class DecoderProcess:
    """A decoding child process. It must be killed after any error except UnreadableVideo and FrameOutOfRange."""

    def __init__(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in kill()
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", decoder_worker.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **_ALLOCATION, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
            bufsize=0,
        )
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        with suppress(OSError):  # the pages in pipes are limited per user
            fcntl.fcntl(self._answers, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def wait_until_ready(self) -> None:
        """Wait until the child process serves requests. Raises DecoderDied and DecodingTimedOut."""
        try:
            self._message("the decoder's start", time.monotonic() + _START_SECONDS, _START_SECONDS)
        except Crash as crash:
            raise DecoderDied(f"the decoder crashed at its start ({crash}). Install decord2 and av anew.") from None

    def decode(self, path: Path, wanted: Sequence[int], limit_seconds: float, with_pyav: bool) -> Answer:
        """Send a request to `extractors.video.decoder_worker` and return its answer.

        Raises Crash and the errors of `Decoder.clips`."""
        name, deadline, places = str(path), time.monotonic() + limit_seconds, _places(wanted)
        request = {"path": str(path.absolute()), "wanted": sorted(places), "limit_seconds": limit_seconds}
        self._request(name, {**request, "with_pyav": with_pyav})
        frames, hashes = np.empty((len(wanted), 0, 0, 3), np.uint8), {}
        coming = iter(sorted(places))
        while "count" not in (message := self._message(name, deadline, limit_seconds)):
            if message:
                frames = np.empty((len(wanted), message["height"], message["width"], 3), np.uint8)
                continue
            index = next(coming)
            first, *others = places[index]
            self._read(name, memoryview(frames[first]).cast("B"), deadline, limit_seconds)
            for place in others:
                frames[place] = frames[first]
            hashes[index] = pixel_hash(frames[first])  # meanwhile the child process decodes the next frame
        count = message["count"]
        if wanted and max(wanted) >= count:
            raise FrameOutOfRange(
                f"{name}: frame {max(wanted) + 1} is wanted, but the video has {counted(count, 'frame')}. {REMEDY}"
            )
        if left := places.keys() - hashes.keys():
            raise UnreadableVideo(f"{name}: the decoder left out frame {min(left) + 1}. Report this.")
        seconds = dict(zip(sorted(places), message["seconds"], strict=True))
        return Answer(
            frames,
            tuple(seconds[index] for index in wanted),
            tuple(hashes[index] for index in wanted),
            count,
            message["differs"],
        )

    def kill(self) -> None:
        """Kill the process, even if it hangs, and close its pipes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
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
        """Read the next message; it is empty if a frame follows."""
        length = bytearray(decoder_worker.HEADER_BYTES)
        self._read(name, memoryview(length), deadline, limit_seconds)
        if not any(length):
            return {}
        encoded = bytearray(int.from_bytes(length, "big"))
        self._read(name, memoryview(encoded), deadline, limit_seconds)
        message: dict[str, Any] = json.loads(encoded)
        if "unreadable" in message:
            if not message["reusable"]:
                self.kill()
            raise UnreadableVideo(f"{name}: {message['unreadable']}. {REMEDY}")
        if "broken" in message:
            raise DecoderDied(f"{name}: {message['broken']}")
        return message

    def _read(self, name: str, view: memoryview, deadline: float, limit_seconds: float) -> None:
        while view:
            if not self._poll.poll(max(0.0, 1000 * (deadline - time.monotonic()))):
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
            return Crash(signal.Signals(-code).name)
        self._errors.seek(0)
        said = self._errors.read()[-500:].decode(errors="replace").strip()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return DecoderDied(
            f"{name}: the decoder ended by {cause}. {said or 'Look for lack of memory, then run again.'}"
        )


def _timed_out(name: str, limit_seconds: float) -> DecodingTimedOut:
    return DecodingTimedOut(
        f"{name}: not decoded within {limit_seconds:g} s. Raise frames.limit_seconds, or, where the file is damaged, "
        "fetch it again or list it in [dataset].exclude with a reason."
    )


def _places(wanted: Sequence[int]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for place, index in enumerate(wanted):
        places.setdefault(index, []).append(place)
    return places


class Crash(Exception):
    """Raised with the name of the signal if the process was ended by a signal that indicates a crash."""
