"""Messages for disk errors: a full disk, a read-only file system, or a path that cannot be read or written."""

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
NOTHING = 1 << 20  # bytes; with less free space than this even one journal line may not fit


def message_of(error: BaseException) -> str | None:
    """Return a message with the problem and its remedy if an error, or one of its causes, is a disk error; else None.

    Disk errors are a full disk and a read-only file system.
    """
    for each in _chain(error):
        name = each.filename if isinstance(each, OSError) else None
        where = f" at {name}" if name else ""
        if _is(each, FULL):
            return FULL_DISK.format(where)
        if _is(each, READ_ONLY):
            return f"the store cannot be written to{where}: its file system is read-only; give --store another folder"
    return None


def unusable_path(error: BaseException) -> str | None:
    """Return a message if an error says that a path cannot be read from or written to; else None."""
    if isinstance(error, OSError) and error.errno in UNUSABLE and error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror}; give another path, or make this one usable"
    return None


def full_disk(folder: Path) -> str | None:
    """Return the message of a full disk if less than 1 MiB is free under a folder; else None."""
    return FULL_DISK.format(f" under {folder}") if shutil.disk_usage(folder).free < NOTHING else None


def suppress_repeated_disk_errors() -> None:
    """Suppress disk errors in destructors: each open HDF5 object would print the error again after it was raised."""
    sys.excepthook, sys.unraisablehook = _uncaught, _unraisable  # Cython reports errors through both hooks


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if message_of(error) is None:
        sys.__excepthook__(kind, error, trace)


def _unraisable(raised: sys.UnraisableHookArgs) -> None:
    if raised.exc_value is None or message_of(raised.exc_value) is None:
        sys.__unraisablehook__(raised)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is(error: BaseException, numbers: tuple[int, ...]) -> bool:
    """Return whether an error has one of these error numbers.

    HDF5 gives the reason only in the error's text, and also raises it in other classes than OSError.
    """
    number = error.errno if isinstance(error, OSError) else None
    return number in numbers or any(os.strerror(each) in str(error) for each in numbers)
