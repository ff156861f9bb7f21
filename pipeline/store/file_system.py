"""A check, once per store and host, that the file system of the store does what the store relies on.

The store relies on locks between processes, hard links, the replacement of a file by a rename, and fsync. NFS has such
locks from version 4 on; some network file systems lack one of them, or pretend to have it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from extractors.shards.fsync import fsync
from pipeline.store import disk_errors, locks

TRY_LOCK = """
import fcntl, os, sys
try:
    fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("held")
"""


class UnsuitableFileSystem(RuntimeError):
    """Error of a store on a file system that lacks something the store relies on."""


def check(store: Path) -> None:
    """Check the file system of a store, unless this host has done so. Raises `UnsuitableFileSystem`."""
    record = store / "cache" / f"file_system-{os.uname().nodename}.json"
    device = store.stat().st_dev
    if record.exists() and _recorded(record) == device:
        return
    folder = record.with_suffix(".try")
    with locks.held(record.with_suffix(".lock"), locks.EXCLUSIVE):
        folder.mkdir(exist_ok=True)
        try:
            for name, works in _CHECKS.items():
                if not _answer(works, folder):
                    raise UnsuitableFileSystem(
                        f"{store}: {name} do not work on this file system ({_kind(store)}); put the store on a local"
                        " disk, or on NFS of version 4 or later, mounted with locks"
                    )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    record.write_text(json.dumps({"device": device}), encoding="utf-8")


def _answer(works: Callable[[Path], bool], folder: Path) -> bool:
    try:
        return works(folder)
    except OSError as error:
        if disk_errors.message_of(error) is not None:  # a full disk says nothing of the file system
            raise
        return False


def _locks(folder: Path) -> bool:
    """Return whether another process is kept out while this one holds a lock, and let in afterwards."""
    path = folder / "lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept_out = _tried(path) == "held"
    finally:
        os.close(handle)
    return kept_out and _tried(path) == ""


def _tried(path: Path) -> str:
    command = [sys.executable, "-I", "-S", "-c", TRY_LOCK, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def _links(folder: Path) -> bool:
    first, second = folder / "first", folder / "second"
    first.write_bytes(b"1")
    second.unlink(missing_ok=True)  # a killed process may have left it
    second.hardlink_to(first)
    return second.stat().st_nlink == 2


def _renames(folder: Path) -> bool:
    old, new = folder / "old", folder / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    new.replace(old)
    return old.read_bytes() == b"new" and not new.exists()


def _syncs(folder: Path) -> bool:
    fsync(folder)
    return True


_CHECKS = {
    "locks between processes": _locks,
    "hard links": _links,
    "renames over a file": _renames,
    "fsyncs of a folder": _syncs,
}


def _recorded(record: Path) -> int | None:
    try:
        return int(json.loads(record.read_bytes())["device"])
    except (ValueError, KeyError, TypeError):
        return None


def _kind(store: Path) -> str:
    """Return the type of the file system that holds a folder, such as "ext4" or "nfs"."""
    found = ("", "of unknown type")
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if store.resolve().is_relative_to(place) and len(place) >= len(found[0]):
            found = (place, kind)
    return found[1]
