"""File locks between processes of one host. They use flock, which the kernel releases when the holder dies.

Locks only avoid duplicate work; `pipeline.store.artifact` ensures by itself that a partial result is never taken for a
complete one. The holder of an exclusive lock may delete its file: a lock is valid only while its path still refers to
the locked file.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

GLIMPSE_SECONDS = 0.01
EXCLUSIVE, SHARED = fcntl.LOCK_EX, fcntl.LOCK_SH
_kept: list[int] = []  # open until this process ends


@contextmanager
def held(path: Path, kind: int, waiting: str = "") -> Iterator[None]:
    """Hold a lock of the given kind. If it is not free, log `waiting` with {} replaced by the holder, and wait."""
    handle = _opened(path)
    try:
        if not _locked(handle, path, kind | fcntl.LOCK_NB):
            time.sleep(GLIMPSE_SECONDS)  # `is_held` may have looked at it
            if waiting and not _locked(handle, path, kind | fcntl.LOCK_NB):
                log.warning("%s", waiting.format(holder(path)))
            while not _locked(handle, path, kind):
                os.close(handle)  # the lock file was deleted meanwhile
                handle = _opened(path)
        if kind == EXCLUSIVE:
            _sign(handle)
        yield
    finally:
        os.close(handle)


def keep(path: Path) -> None:
    """Hold a shared lock until this process ends.

    Does nothing in a read-only folder: nothing can be deleted there, so no lock is needed.
    """
    try:
        handle = _opened(path)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        return
    fcntl.flock(handle, SHARED)
    _kept.append(handle)


@contextmanager
def free(path: Path) -> Iterator[bool]:
    """Yield whether no other process holds a lock; if so, hold it exclusively. Does not wait."""
    handle = _opened(path)
    try:
        alone = _locked(handle, path, EXCLUSIVE | fcntl.LOCK_NB)
        if alone:
            _sign(handle)
        yield alone
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock exclusively."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, SHARED | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def signature(process: int) -> str:
    """Return the text by which a process of this host signs the locks that it holds exclusively."""
    return f"process {process} on {os.uname().nodename}"


def holder(path: Path) -> str:
    """Return the process that last wrote its name into the lock file, or "another process" if that is unknown."""
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"


def _opened(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _locked(handle: int, path: Path, operation: int) -> bool:
    try:
        fcntl.flock(handle, operation)
    except BlockingIOError:
        return False
    return _is_current(handle, path)


def _is_current(handle: int, path: Path) -> bool:
    """Return whether the opened file is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{signature(os.getpid())}\n".encode(), 0)
