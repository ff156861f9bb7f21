"""Errors of the disk, in words: it is full, or a path cannot be read from or written to."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS,)
UNUSABLE = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
FULL_DISK = "the disk is full{}; free some space (`acga gc CONFIG` lists what can go) and run again"
NOTHING = 1 << 20  # bytes; with fewer not even a line of the journal may find room


def trouble(error: BaseException) -> str | None:
    """What is wrong with the disk and what to do, where that is what an error, or what it came from, is about."""
    for each in _chain(error):
        name = each.filename if isinstance(each, OSError) else None
        where = f" at {name}" if name else ""
        if _is(each, FULL):
            return FULL_DISK.format(where)
        if _is(each, READ_ONLY):
            return f"the store cannot be written to{where}: its file system is read-only; give --store another folder"
    return None


def unusable(error: BaseException) -> str | None:
    """What is wrong with a path that nothing can be read from or written to, where an error is about that."""
    if isinstance(error, OSError) and error.errno in UNUSABLE and error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror}; give another path, or make this one usable"
    return None


def full(folder: Path) -> str | None:
    """The same words where hardly a byte is free under a folder."""
    return FULL_DISK.format(f" under {folder}") if shutil.disk_usage(folder).free < NOTHING else None


def hush() -> None:
    """Keep destructors from repeating what a disk's trouble is: HDF5's objects do, one by one, after it was raised."""
    sys.excepthook, sys.unraisablehook = _uncaught, _unraisable  # Cython speaks through both


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if trouble(error) is None:
        sys.__excepthook__(kind, error, trace)


def _unraisable(raised: sys.UnraisableHookArgs) -> None:
    if raised.exc_value is None or trouble(raised.exc_value) is None:
        sys.__unraisablehook__(raised)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is(error: BaseException, numbers: tuple[int, ...]) -> bool:
    """Whether an error has one of these numbers; HDF5 tells it in its text alone, and not only in an OSError."""
    number = error.errno if isinstance(error, OSError) else None
    return number in numbers or any(os.strerror(each) in str(error) for each in numbers)
