"""Messages for disk errors: a full, lost or read-only disk, full shared memory, or a path that cannot be used."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeGuard

FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS,)
LOST = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN)
UNUSABLE = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
FULL_DISK = "the disk is full{}; free some space (`acga gc CONFIG` lists what can go) and run again"
NO_SEMAPHORE = (
    "no semaphore can be made in /dev/shm ({}); delete what ended programs left there, or give it more space"
    " (`mount -o remount,size=64M /dev/shm`, or --shm-size of a container), and run again"
)
LOST_DISK = (
    "the disk{} does not answer ({}): a network disk was cut off or a disk is broken; when it answers again, run again"
)
NOTHING = 1 << 20  # bytes; with less free space than this even one journal line may not fit


def message_of(error: BaseException) -> str | None:
    """Return a message with the problem and its remedy if an error, or one of its causes, is a disk error; else None.

    Disk errors are a full disk, a read-only file system, a disk that does not answer, and full shared memory.
    """
    for each in _chain(error):
        name = each.filename if isinstance(each, OSError) else None
        where = f" at {name}" if name else ""
        if _is_of_semaphore(each):
            return NO_SEMAPHORE.format(each.strerror)
        if (lost := _lost(each)) is not None:
            return LOST_DISK.format(where, os.strerror(lost))
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


def _is_of_semaphore(error: BaseException) -> TypeGuard[OSError]:
    """Return whether the system refused a semaphore of `multiprocessing`, which it keeps in /dev/shm."""
    if not isinstance(error, OSError) or error.__traceback__ is None:
        return False
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    return innermost.f_globals.get("__name__") == "multiprocessing.synchronize"


def _lost(error: BaseException) -> int | None:
    """Return the error number if a disk does not answer; HDF5 gives it in the error's text."""
    if isinstance(error, OSError) and error.errno in LOST:
        return error.errno
    return next((number for number in LOST if f"errno = {number}," in str(error)), None)


def _is(error: BaseException, numbers: tuple[int, ...]) -> bool:
    """Return whether an error has one of these error numbers.

    HDF5 gives the reason only in the error's text, and also raises it in other classes than OSError.
    """
    number = error.errno if isinstance(error, OSError) else None
    return number in numbers or any(os.strerror(each) in str(error) for each in numbers)
