"""Locks between processes of one host: flock, freed by the kernel when the holder dies.

A lock only saves work; that nothing half done is ever taken for done is the business of `pipeline.artifact`. Lock files
may be deleted by whoever holds them alone: a lock counts only while its file is still the one at its path.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

EXCLUSIVE, SHARED = fcntl.LOCK_EX, fcntl.LOCK_SH
_kept: list[int] = []  # open until this process ends


@contextmanager
def held(path: Path, kind: int, waiting: str) -> Iterator[None]:
    """A lock, once it can be had; logs `waiting`, with the holder in the place of {}, where that takes time."""
    handle = _opened(path)
    try:
        if not _locked(handle, path, kind | fcntl.LOCK_NB):
            log.warning("%s", waiting.format(holder(path)))
            while not _locked(handle, path, kind):
                os.close(handle)  # it was deleted meanwhile
                handle = _opened(path)
        if kind == EXCLUSIVE:
            _sign(handle)
        yield
    finally:
        os.close(handle)


def keep(path: Path) -> None:
    """Share a lock until this process ends; in a read-only folder nothing can be deleted, and none is needed."""
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
    """Whether nobody holds a lock, and if so holds it alone; waits for nobody."""
    handle = _opened(path)
    try:
        alone = _locked(handle, path, EXCLUSIVE | fcntl.LOCK_NB)
        if alone:
            _sign(handle)
        yield alone
    finally:
        os.close(handle)


def holder(path: Path) -> str:
    """Who signed the lock last, in words."""
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
    """Whether the opened file is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
