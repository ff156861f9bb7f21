"""The end of a command by Ctrl-C (SIGINT) or SIGTERM: one line, no process left, exit code 130 or 143.

The command ends at once, wherever it is: the store survives a kill at any moment. This module is imported before all
others, so that an interrupt is answered while they are imported; it imports next to nothing.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
CLEAR_LINE = "\r\x1b[K"  # of a terminal, which shows ^C and maybe a bar there
TRACKER = b"multiprocessing.resource_tracker"  # deletes the semaphores of ended processes, then ends by itself
_scratch: set[str] = set()
_ending = False


def answer() -> None:
    """Answer both signals from now on. One that is ignored (SIGINT in the background of a script) stays ignored."""
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")  # would be printed after the one line
    answered = [number for number in WORDS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in answered:
        signal.signal(number, _end)
    atexit.register(_ignore, answered)  # runs last: what is left to do is short and gives no line


@contextmanager
def deleted(folder: str) -> Iterator[None]:
    """Delete this folder if the command is interrupted in this context."""
    _scratch.add(folder)
    try:
        yield
    finally:
        _scratch.discard(folder)


@contextmanager
def spared() -> Iterator[None]:
    """Let no process that is started in this context, nor its own children, receive SIGINT.

    A terminal sends it to all processes of a command; this one answers, after this context, and ends the others.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its start sets the mask of signals, too
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_forkserver() -> None:
    """Start the forkserver of `multiprocessing`, if it is not running, so that SIGINT reaches none of its tasks."""
    from multiprocessing import forkserver, util

    _scratch.add(util.get_temp_dir())  # of the forkserver's socket
    with spared():
        forkserver.ensure_running()


def _ignore(numbers: list[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, _: object) -> None:
    """End this process and all its descendants. Another signal meanwhile changes nothing."""
    global _ending
    if _ending:
        return
    _ending = True
    try:
        _kill_descendants()
        for folder in tuple(_scratch):
            import shutil  # loaded already, since a folder for scratch was made

            shutil.rmtree(folder, ignore_errors=True)
        start = CLEAR_LINE if os.isatty(2) else ""
        os.write(2, f"{start}acga: {WORDS[signal.Signals(number)]}; run the same command to go on\n".encode())
    finally:
        os._exit(128 + number)


def _kill_descendants() -> None:
    """Kill all descendants but the resource tracker. They are stopped first, so that none starts another meanwhile."""
    stopped: set[int] = set()
    while found := _descendants() - stopped:
        for process in found:
            _send(process, signal.SIGSTOP)
        stopped |= found
    for process in stopped:
        _send(process, signal.SIGKILL)


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)


def _descendants() -> set[int]:
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            state = _read(f"{entry.path}/stat").rpartition(b")")[2].split()  # the name before it may hold anything
            if len(state) > 1 and state[0] != b"Z":
                children.setdefault(int(state[1]), []).append(int(entry.name))
    found, left = set(), [os.getpid()]
    while left:
        for process in children.get(left.pop(), []):
            if TRACKER not in _read(f"/proc/{process}/cmdline"):
                found.add(process)
                left.append(process)
    return found


def _read(path: str) -> bytes:
    """Return a short file of a process; nothing if the process has ended."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(handle, 4096)
        finally:
            os.close(handle)
    except OSError:
        return b""
