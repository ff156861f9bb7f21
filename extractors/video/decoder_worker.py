"""The decoding child process of `extractors.video.decoder_process`: it reads requests from standard input and writes
frames to standard output.

It is a separate process because decord may hang on a damaged file and then ignores Python's signals, but a process can
be killed. A request is a line of JSON:

path            a video file or, with PyAV, a folder of pictures
wanted          increasing indices from 0
with_pyav       whether PyAV, the second decoder, gives the frames instead of decord
limit_seconds   time after which the parent process kills this process

A message is its length (four bytes, big-endian) and JSON of that length. The first message is {"ready"}. The answer to
a request is {"height", "width"}; then, each after a length of 0, the pixels of the wanted frames in order; then one of
{"count", "seconds" of the wanted frames, "differs"}, {"unreadable": reason} and {"broken": reason}. With "reusable":
false this process must be killed. Frames are valid only after the final "count".
"""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.wording import counted

if TYPE_CHECKING:
    from extractors.video.pyav_decoder import Frame, PyAVDecoder, Summary

HEADER_BYTES = 4
GRACE_SECONDS = 10  # if the parent, which kills at the limit, is gone, the alarm ends this process later
_LOG_PREFIX = re.compile(r"\[[0-9:]+\] \S+:[0-9]+: (\[[^\]]*\])?")  # time, source line, path
_NO_REPEATS = 1e-9  # share of frames that decord may repeat in place of lost ones; 0 means no limit


def main() -> None:
    """Serve requests until standard input ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # output of libraries must not mix with the answers
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    sys.modules["nvidia"] = None  # type: ignore[assignment] # keeps decord from loading CUDA: 600 MB, a second
    try:
        import av
        import decord

        from extractors.video.pyav_decoder import DamagedVideo
    except (ImportError, OSError, RuntimeError) as error:
        why = f"the decoder does not start ({type(error).__name__}: {error}). Install decord2 and av."
        _send(answers, {"broken": why})
        return
    av.logging.set_level(av.logging.PANIC)
    decord.logging.set_level(decord.logging.QUIET)
    _send(answers, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["limit_seconds"] + GRACE_SECONDS)
        try:
            _serve(Path(request["path"]), request["wanted"], request["with_pyav"], answers)
        except DamagedVideo as error:
            _send(answers, {"unreadable": str(error), "reusable": True})
        except DecordFailure as error:
            _send(answers, {"unreadable": str(error), "reusable": False})
        except OSError as error:
            _send(answers, {"broken": f"{type(error).__name__}: {error}. Make it readable, then run again."})
        signal.setitimer(signal.ITIMER_REAL, 0)


def _serve(path: Path, wanted: Sequence[int], with_pyav: bool, answers: int) -> None:
    from data.readers.picture_folder import pictures
    from extractors.video import containers, pyav_decoder

    if path.is_dir():
        files = pictures(path)
        count = len(files)
        for index in (index for index in wanted if index < count):
            _frame(answers, index == wanted[0], pyav_decoder.image(files[index]))
        _last(answers, wanted, pyav_decoder.Summary(count, (None,) * count), differs=False)
        return
    _read_through(path)
    damage = containers.damage(path)
    try:
        with closing(pyav_decoder.PyAVDecoder(path, damage)) as opened:
            if not with_pyav and not damage and wanted:
                _decode(path, wanted, *opened.first_frame(), answers)
            else:
                _decode_with_pyav(opened, wanted, with_pyav and not damage, answers)
    except DecordFailure as failure:
        try:
            with closing(pyav_decoder.PyAVDecoder(path, damage)) as opened:
                list(opened.frames(()))
                count = opened.summary_up_to(wanted[-1]).count
        except pyav_decoder.DamagedVideo as reason:  # PyAV's reason replaces decord's
            raise DecordFailure(str(reason)) from None
        raise DecordFailure(f"{failure}; PyAV reads {counted(count, 'frame')}") from None


def _decode_with_pyav(opened: "PyAVDecoder", wanted: Sequence[int], shown: bool, answers: int) -> None:
    """Decode the whole file with PyAV and send its summary, with the wanted frames if `shown`."""
    for index, pixels in opened.frames(wanted if shown else ()):
        _frame(answers, index == wanted[0], pixels)
    summary = opened.summary_up_to(wanted[-1] if wanted else -1)
    if not wanted:
        _send(answers, {"height": opened.size[0], "width": opened.size[1]})
    _last(answers, wanted, summary, differs=False)


def _read_through(path: Path) -> None:
    """Read the whole file. Raises OSError if the disk fails, which a decoder would take for a damaged file."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def _decode(path: Path, wanted: Sequence[int], first: "Frame", summary: "Summary", answers: int) -> None:
    # Indices are correct if every announced frame is decoded, none is repeated, and the first frame is PyAV's.
    differs = False
    with _failures():
        reader = _opened(path)
        if len(reader) != summary.count:
            raise DecordFailure(
                f"decord announces {counted(len(reader), 'frame')} of {counted(summary.count, 'packet')}"
            )
        following = iter((*wanted, -1))
        awaited = next(following)
        for index in range(summary.count):
            frame = reader.next()
            if index not in (0, awaited):
                continue
            pixels = _without_padding(frame.asnumpy())
            if pixels.shape != first.shape:
                raise DecordFailure(f"decord's frame {index + 1} is of shape {pixels.shape}")
            if not index:
                differs = bool((pixels != first).any())
            if index == awaited:
                awaited = next(following)
                _frame(answers, index == wanted[0], pixels)
    _last(answers, wanted, summary, differs)


def _opened(path: Path) -> Any:
    import decord

    return decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1, fault_tol=_NO_REPEATS)


def _without_padding(pixels: Any) -> Any:
    # decord takes row padding of narrow frames for a channel: rows of 48 x 3 bytes are padded to 192 = 48 x 4 bytes.
    height, width, channels = pixels.shape
    if channels == 3:
        return pixels
    return pixels.reshape(height, channels * width)[:, : 3 * width].copy().reshape(height, width, 3)


@contextmanager
def _failures() -> Iterator[None]:
    import decord

    try:
        yield
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, StopIteration, AssertionError) as error:
        lines = _LOG_PREFIX.sub("", str(error)).strip().splitlines() or [type(error).__name__]  # drops the traceback
        raise DecordFailure(f"decord fails: {lines[0][:200]}") from None


def _frame(answers: int, first: bool, pixels: Any) -> None:
    if first:
        _send(answers, {"height": pixels.shape[0], "width": pixels.shape[1]})
    _write(answers, bytes(HEADER_BYTES), memoryview(pixels).cast("B"))


def _last(answers: int, wanted: Sequence[int], summary: "Summary", differs: bool) -> None:
    seconds = [summary.seconds[index] for index in wanted if index < summary.count]
    _send(answers, {"count": summary.count, "seconds": seconds, "differs": differs})


def _send(answers: int, message: Mapping[str, Any]) -> None:
    encoded = json.dumps(message).encode()
    _write(answers, len(encoded).to_bytes(HEADER_BYTES, "big"), memoryview(encoded))


def _write(answers: int, header: bytes, content: memoryview) -> None:
    sent = os.writev(answers, [header, content]) - len(header)
    while sent < len(content):
        sent += os.write(answers, content[sent:])


class DecordFailure(Exception):
    """Raised if decord failed on a file; its internal state must not be used afterwards."""


if __name__ == "__main__":
    main()
