"""Faults at exact places of real runs: Python imports this as it starts, where PYTHONPATH names this folder.

What a process writes below FAULT_STORE is an event: "open <path>" for writing, "os.link <path>", ... FAULT_LOG gets a
line for each. The FAULT_NTH one that matches FAULT_MATCH (a regular expression), counted over all processes of a run,
meets FAULT_DO: "kill" kills the whole process group, "full" is a disk without space.
"""

import errno
import fcntl
import os
import re
import signal
import sys

WRITES = ("os.link", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
STORE, LOG = os.environ.get("FAULT_STORE", ""), os.environ.get("FAULT_LOG", "")
MATCH = re.compile(os.environ.get("FAULT_MATCH", "$^"))
NTH, DO = int(os.environ.get("FAULT_NTH", "0")), os.environ.get("FAULT_DO", "")
busy = False


def hook(event: str, arguments: tuple) -> None:
    global busy
    if busy or not (event == "open" or event in WRITES):
        return
    if event == "open":
        path, _, flags = arguments
        if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)) or isinstance(path, int):
            return
    else:
        path = arguments[1] if event in ("os.link", "os.rename") else arguments[0]
    path = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
    if not path.startswith(STORE):
        return
    busy = True
    try:
        met = note(f"{event} {path[len(STORE) + 1 :]}")
    finally:
        busy = False
    if met and DO == "kill":
        os.killpg(0, signal.SIGKILL)
    if met and DO == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def note(line: str) -> bool:
    """Write an event down; whether it is the one that meets the fault."""
    matches = bool(MATCH.search(line))
    handle = os.open(LOG, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        before = os.pread(handle, 1 << 24, 0).decode().count("* ")
        met = matches and before + 1 == NTH
        os.write(handle, f"{'* ' if matches else '  '}{line}{'  <- fault' if met else ''}\n".encode())
    finally:
        os.close(handle)
    return met


if STORE and LOG:
    sys.addaudithook(hook)
