"""The registry of active runs, by which `acga gc` keeps the artifacts that running processes need.

    <store>/running/<process>.json   the requested tasks; locked while the process lives (the kernel releases the lock)
    <store>/running/gate             a lock: shared while a process lists its raw files and registers its tasks,
                                     exclusive during garbage collection

Artifacts that no registered task needs may be deleted at any time.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.engine.stage import Stage
from pipeline.store import locks

log = logging.getLogger(__name__)
_handles: list[int] = []  # open until this process ends


@contextmanager
def starting(store: Path) -> Iterator[None]:
    """Hold the gate shared, so that nothing is deleted meanwhile."""
    with locks.held(store / "running" / "gate", locks.SHARED, "waiting for {}, which collects garbage"):
        yield


@contextmanager
def exclusive(store: Path) -> Iterator[None]:
    """Hold the gate exclusively, so that no process registers meanwhile."""
    waiting = "waiting for a process that lists its raw files in this store"
    with locks.held(store / "running" / "gate", locks.EXCLUSIVE, waiting):
        yield


def register(store: Path, roots: Sequence[Stage]) -> None:
    """Register the tasks that this process was asked for, until it ends. The caller must hold the gate."""
    path = store / "running" / f"{os.getpid()}-{len(_handles)}.json"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.write(handle, json.dumps([[task.stage, task.param_kwargs] for task in roots]).encode())
    _handles.append(handle)
    atexit.register(path.unlink, missing_ok=True)


def other_runs(store: Path) -> list[list[list[Any]]]:
    """Return, for each other live process, the stage and parameters of each task that it was asked for.

    Deletes the entries of dead processes. The caller must hold the gate exclusively.
    """
    found = []
    for path in sorted((store / "running").glob("*.json")):
        with locks.free(path) as dead:
            if dead:
                path.unlink()
            else:
                found.append(json.loads(path.read_bytes()))
    return found
