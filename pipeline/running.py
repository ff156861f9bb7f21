"""Which experiments running processes are about, so that `acga gc` keeps what they reach.

    <store>/running/<process>.json   the tasks asked for; locked while the process lives, freed by the kernel on death
    <store>/running/gate             shared while a process lists its raw files and announces itself, held alone while
                                     garbage is collected

What no announcement reaches may be deleted at any time.
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
from typing import TYPE_CHECKING, Any

from pipeline import locks

if TYPE_CHECKING:
    from pipeline.stage import Stage

log = logging.getLogger(__name__)
_handles: list[int] = []  # open until this process ends


@contextmanager
def gate(store: Path) -> Iterator[None]:
    """Nothing is deleted meanwhile."""
    with locks.held(store / "running" / "gate", locks.SHARED, "waiting for {}, which collects garbage"):
        yield


@contextmanager
def alone(store: Path) -> Iterator[None]:
    """Nobody begins anything meanwhile."""
    waiting = "waiting for a process that lists its raw files in this store"
    with locks.held(store / "running" / "gate", locks.EXCLUSIVE, waiting):
        yield


def announce(store: Path, roots: Sequence[Stage]) -> None:
    """Say what this process is about until it ends. The caller holds the gate."""
    path = store / "running" / f"{os.getpid()}-{len(_handles)}.json"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.write(handle, json.dumps([[task.stage, task.param_kwargs] for task in roots]).encode())
    _handles.append(handle)
    atexit.register(path.unlink, missing_ok=True)


def others(store: Path) -> list[list[list[Any]]]:
    """For each other process that lives: the stages and parameters of the tasks that it was asked for.

    What dead ones left is deleted. The caller is alone.
    """
    found = []
    for path in sorted((store / "running").glob("*.json")):
        with locks.free(path) as dead:
            if dead:
                path.unlink()
            else:
                found.append(json.loads(path.read_bytes()))
    return found
