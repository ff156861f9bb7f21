"""The decoding process, run as a script by `extractors.frames`: requests on standard input, frames on standard output.

It stands alone because decord may hang on a damaged file and then ignores Python's signals: this process can be killed.
A request is a line of JSON, {"path", "wanted": increasing indices, "limit_seconds"}. An answer is a length (four bytes,
big-endian), JSON of that length, and after {"frame": index} the pixels. In order: {"ready"} once; then for each request
{"count", "height", "width"}, the wanted frames, {"done"}; or {"unreadable": why, "reusable"}, or {"broken": why}.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

HEADER_BYTES = 4
GRACE_SECONDS = 10  # the parent kills at the limit; were it gone, the alarm ends a hanging decoder a little later
_SLACK_BYTES = 8  # some writers count the RIFF header itself


@dataclass(frozen=True)
class Witness:
    """What PyAV says of a file: frames that decode, frames that the container declares (0 where it does not), the size,
    the first damaged frame, and what stopped the decoding ("" where nothing did)."""

    count: int
    declared: int
    height: int
    width: int
    damaged: int | None
    stopped: str


def main() -> None:
    """Serves requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        import av
        import decord
    except (ImportError, OSError, RuntimeError) as error:
        _send(answers, {"broken": f"{type(error).__name__}: {error}"})
        return
    av.logging.set_level(av.logging.PANIC)
    decord.logging.set_level(decord.logging.QUIET)
    _send(answers, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["limit_seconds"] + GRACE_SECONDS)
        try:
            _serve(Path(request["path"]), request["wanted"], answers)
        except DamagedVideo as error:
            _send(answers, {"unreadable": str(error), "reusable": not isinstance(error, DecordFailure)})
        signal.setitimer(signal.ITIMER_REAL, 0)


def _serve(path: Path, wanted: Sequence[int], answers: BinaryIO) -> None:
    witness = examine(path, wanted[-1] if wanted else -1)
    _send(answers, {"count": witness.count, "height": witness.height, "width": witness.width})
    if wanted and wanted[-1] < witness.count:
        for index, frame in _frames(path, wanted, witness):
            _send(answers, {"frame": index})
            answers.write(memoryview(frame).cast("B"))
    _send(answers, {"done": True})


def examine(path: Path, last: int) -> Witness:
    """What PyAV says of a file of which frames up to index `last` are wanted. Raises DamagedVideo.

    decord alone does not tell: it repeats frames where a file holds fewer than its packets announce. The declared count
    is no measure either: the AVI files of J-HMDB declare 48 frames and hold 40."""
    witness = _witness(path)
    missing = missing_bytes(path)
    declared = f" of {witness.declared} declared" if witness.declared else ""
    counted = f"{witness.count}{declared} frames decode"
    if missing:
        raise DamagedVideo(f"{counted}, and {missing} bytes are missing at its end")
    if witness.stopped:
        raise DamagedVideo(f"{counted}, then: {witness.stopped}")
    if not witness.count:
        raise DamagedVideo("no frame decodes")
    if witness.damaged is not None and witness.damaged <= last:
        raise DamagedVideo(f"{counted}, but frame {witness.damaged + 1} is damaged")
    return witness


def missing_bytes(path: Path) -> int:
    """By how much an AVI or MP4 file is shorter than its outermost chunks say; 0 for other files."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"AVI ":
            missing = _riff_end(file) - size
            return missing if missing > _SLACK_BYTES else 0
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return max(0, _boxes_end(file, size) - size)
    return 0


def _riff_end(file: BinaryIO) -> int:
    end = 0
    while True:  # files above 1 GiB are several RIFF chunks
        file.seek(end)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):
            return end
        end += 8 + length + length % 2


def _boxes_end(file: BinaryIO, size: int) -> int:
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: up to the end of the file; other values are no box
            return size
        end += length
    return end


def _witness(path: Path) -> Witness:
    import av

    count, declared, height, width, damaged, stopped = 0, 0, 0, 0, None, ""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
                raise DamagedVideo("it has no video stream of a known codec")
            declared = stream.frames
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                if damaged is None and frame.is_corrupt:
                    damaged = count
                if not count:
                    height, width = frame.height, frame.width
                count += 1
    except av.FFmpegError as error:
        stopped = f"{type(error).__name__}: {error.strerror}"
    return Witness(count, declared, height, width, damaged, stopped)


def _frames(path: Path, wanted: Sequence[int], witness: Witness) -> Iterator[tuple[int, Any]]:
    # From the start and one by one: decord returns wrong frames after a seek in MPEG-4 with B frames.
    import decord

    remaining = iter(wanted)
    following = next(remaining)
    try:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        if len(reader) != witness.count:
            raise DecordFailure(f"{witness.count} frames decode, but it announces {len(reader)}")
        for index in range(wanted[-1] + 1):
            frame = reader.next()
            if index == following:
                pixels = frame.asnumpy()
                if pixels.shape != (witness.height, witness.width, 3):
                    raise DecordFailure(
                        f"frame {index + 1} is of shape {pixels.shape}, not {witness.height} x {witness.width}"
                    )
                yield index, pixels
                following = next(remaining, -1)
    except (decord.DECORDError, RuntimeError, StopIteration) as error:
        raise DecordFailure(f"decord fails where PyAV reads {witness.count} frames: {str(error)[:200]}") from None


def _send(answers: BinaryIO, message: Mapping[str, Any]) -> None:
    encoded = json.dumps(message).encode()
    answers.write(len(encoded).to_bytes(HEADER_BYTES, "big") + encoded)
    if "frame" not in message:
        answers.flush()


class DamagedVideo(ValueError):
    """A file that cannot be decoded as what it claims to be."""


class DecordFailure(DamagedVideo):
    """A file on which decord failed, after which nothing that it keeps can be relied on."""


if __name__ == "__main__":
    main()
