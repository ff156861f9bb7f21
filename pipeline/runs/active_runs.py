"""The registry of active runs, by which `acga gc` keeps the artifacts that running processes need.

    <store>/running/<host>-<process>.json   the requested tasks and what determines them; locked while the process
                                     lives (the kernel releases the lock)
    <store>/running/gate             a lock: shared while a process lists its raw files and registers its tasks,
                                     exclusive during garbage collection

Artifacts that no registered task needs may be deleted at any time. Hosts that share a scheduler must ask for the same
tasks of the same code with the same packages; one that comes later and differs is refused.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.engine import environment
from pipeline.engine.key import code_digest
from pipeline.engine.stage import Stage
from pipeline.graph import STAGES
from pipeline.store import locks

log = logging.getLogger(__name__)
_handles: list[int] = []  # open until this process ends


class HostsDiffer(RuntimeError):
    """Error of a run whose code, packages, config or raw files differ from those of another host of its scheduler."""


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


def register(store: Path, roots: Sequence[Stage], scheduler: str | None = None) -> None:
    """Register the tasks that this process was asked for, until it ends. The caller must hold the gate.

    Raises `HostsDiffer` if another live process with the same scheduler registered before and differs.
    """
    path = store / "running" / f"{os.uname().nodename}-{os.getpid()}-{len(_handles)}.json"
    part = path.with_suffix(".part")
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    fcntl.flock(handle, fcntl.LOCK_EX)
    own = {"tasks": [[task.stage, task.param_kwargs] for task in roots], **_facts(roots, scheduler)}
    os.write(handle, json.dumps(own).encode())
    part.replace(path)  # whole, and locked already
    _handles.append(handle)
    atexit.register(path.unlink, missing_ok=True)
    if scheduler is not None:
        _compare(own, [json.loads(other.read_bytes()) for other in _live(store) if other != path])


def _facts(roots: Sequence[Stage], scheduler: str | None) -> dict[str, Any]:
    """Return what determines the tasks of a run, and who runs it."""
    return {
        "who": f"process {os.getpid()} on {os.uname().nodename}",
        "started": time.time(),
        "scheduler": scheduler,
        "code": {stage.__name__: code_digest(stage.implementation) for stage in STAGES},
        "packages": {"python": platform.python_version(), **environment.packages()},
        "sections": roots[0].values,
        "raw files": {"catalogue": roots[0].catalogue},
    }


def _compare(own: dict[str, Any], others: list[dict[str, Any]]) -> None:
    """Raise `HostsDiffer` if another run of the scheduler began earlier and differs in what determines results."""
    for other in others:
        if other["scheduler"] != own["scheduler"] or (other["started"], other["who"]) > (own["started"], own["who"]):
            continue
        for kind in ("code", "packages", "sections", "raw files"):
            here, there = own[kind], other[kind]
            names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
            if names:
                values = f" ({here.get(names[0])} here, {there.get(names[0])} there)" if kind == "packages" else ""
                raise HostsDiffer(
                    f"{other['who']} works with the scheduler {own['scheduler']} on another experiment: the {kind}"
                    f" differ in {names[0]}{values}. Give all hosts the same code, packages, config and data or"
                    " another scheduler."
                )


def _live(store: Path) -> list[Path]:
    """Return the entries whose process lives, on whatever host."""
    return [path for path in sorted((store / "running").glob("*.json")) if locks.is_held(path)]


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
                found.append(json.loads(path.read_bytes())["tasks"])
    return found
