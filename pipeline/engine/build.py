"""Building one artifact: run the stage's implementation, then describe its output files and publish them."""

from __future__ import annotations

import importlib
import logging
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.engine import environment
from pipeline.engine.key import current_digest, module_digests
from pipeline.engine.progress import Progress
from pipeline.engine.stage import Stage
from pipeline.sections.section import Section
from pipeline.stages.support.job import Job
from pipeline.stages.support.units import Known, Units
from pipeline.store import slots
from pipeline.store.artifact import Artifact, at, sha256

log = logging.getLogger(__name__)


class CodeChanged(RuntimeError):
    """Error of a stage whose source files changed between planning and running."""


class InputGone(RuntimeError):
    """Error of a task whose input was deleted."""


@dataclass(frozen=True)
class Implementation:
    """The interface of a stage's module: its settings, and the function that writes the artifact's files."""

    settings: type[Section]
    build: Callable[[Job[Any, Any]], None]


def build(task: Stage) -> tuple[Artifact, dict[str, Any]]:
    """Build and publish a task's artifact; return it with the cost of building (empty if it was published already).

    Raises `CodeChanged`, `InputGone` and any error of the implementation; after an error, only the folder `resume`
    remains of the attempt.
    """
    if current_digest(task.implementation) != task.code:
        raise CodeChanged(f"{task.stage}: the source files changed after this run was planned; run it again")
    artifact, ingredients = task.artifact(), task.ingredients()
    if artifact is None or ingredients is None:
        raise InputGone(f"{task.stage} {task.label}: an input is gone; run again")
    with artifact.lock(), ExitStack() as reading:
        if artifact.complete():
            return artifact, {}
        for below in task.upstream_tasks:
            if (place := below.artifact()) is not None:
                reading.enter_context(place.reading())
        gone = [f"{below.stage} {below.label}" for below in task.upstream_tasks if not below.complete()]
        if gone:
            raise InputGone(f"{task.stage} {task.label}: {gone[0].strip()} was deleted meanwhile; run again")
        devices = reading.enter_context(slots.taken(task.slots)) if task.slots else ()
        attempt = artifact.begin()
        try:
            return artifact, _build(task, artifact, ingredients, attempt, devices)
        except BaseException:
            artifact.abandon(attempt)
            raise


def _build(
    task: Stage, artifact: Artifact, ingredients: dict[str, Any], attempt: Path, devices: Sequence[str]
) -> dict[str, Any]:
    started = time.monotonic()
    store, name = Path(task.store), f"{task.stage} {task.label}".strip()
    places = [(below, place) for below in task.upstream_tasks if (place := below.artifact()) is not None]
    likeness = task.likeness(ingredients)
    with Progress(name) as progress:
        job = job_of(
            task,
            [(below.provides, place.files()) for below, place in places],
            out=attempt,
            resume=artifact.resume,
            logs=store / "logs" / f"{task.stage}-{artifact.key[:16]}",
            units=Units(known_units(store, task.stage, likeness) if likeness else {}),
            progress=progress.update,
        )
        implementation_of(task).build(job)
    facts = {
        "seconds": round(time.monotonic() - started, 3),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "bytes": sum(path.stat().st_size for path in _files(attempt)),
        "host": os.uname().nodename,
        "devices": list(devices),
        **({"units": len(job.units.made), "taken_over": len(job.units.taken)} if likeness else {}),
    }
    described = {
        "ingredients": ingredients,
        "label": task.label,
        "from": [[below.stage, below.label, place.key] for below, place in places],
        "modules": module_digests(task.implementation),
        "experiment": {"sections": task.values, "catalogue": task.catalogue},
        "cost": facts,
        "environment": environment.describe(),
        **({"notes": job.notes} if job.notes else {}),
        **({"likeness": likeness, "units": job.units.made} if likeness else {}),
    }
    artifact.publish(attempt, described_files(attempt), described)
    log.info("%s: done in %.1f s", name, facts["seconds"])
    return facts


def job_of(
    task: Stage,
    inputs: Iterable[tuple[Sequence[str], Path]],
    out: Path,
    resume: Path,
    logs: Path,
    units: Units,
    progress: Callable[[int, int], None],
) -> Job[Any, Any]:
    """Return the job that is passed to the task's implementation.

    `inputs` gives, for each input, the names under which the stage finds it, and its folder.
    """
    folders: dict[str, list[Path]] = {}
    for names, folder in inputs:
        for name in names:
            folders.setdefault(name, []).append(folder)
    cache = Path(task.store) / "cache"
    for place in (resume, cache):
        place.mkdir(exist_ok=True)
    members = task.raw_members()
    return Job(
        settings=implementation_of(task).settings.model_validate(task.settings()),
        records=members["records"],
        files=members["files"],
        inputs={name: tuple(found) for name, found in folders.items()},
        out=out,
        resume=resume,
        cache=cache,
        logs=logs,
        units=units,
        progress=progress,
    )


def implementation_of(task: Stage) -> Implementation:
    """Import the module of a task's stage and return its interface."""
    module = importlib.import_module(task.implementation)
    return Implementation(module.Settings, module.build)


def known_units(store: Path, stage: str, likeness: str) -> dict[str, list[Known]]:
    """Return the units of all artifacts of a stage that differ from the one to be built in their units alone.

    `likeness` is the digest from `Stage.likeness` that such artifacts share. Evicted artifacts are left out.
    """
    known: dict[str, list[Known]] = {}
    for path in sorted((store / stage).glob("*/manifest.json")):
        if likeness.encode() not in path.read_bytes():  # most manifests have other settings; parsing is slower
            continue
        manifest = at(path)
        if manifest is None or manifest.get("likeness") != likeness or (path.parent / "evicted").exists():
            continue
        files = {name: file["sha256"] for name, file in manifest["files"].items()}
        for unit, made in manifest["units"].items():
            found = Known(made["inputs"], made["content"], path.parent / manifest["attempt"], files)
            known.setdefault(unit, []).append(found)
    return known


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def content_of(path: Path) -> str:
    """Return the content hash of a file: for a shard, of all that a reader can see; for other files, of their bytes."""
    if path.suffix != ".h5":
        return sha256(path)
    from extractors.shards import shard  # imported only for a shard, so that the parent process does not load h5py

    return shard.content_hash(path)


def described_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the bytes, SHA-256 and content hash of every file below a folder, by its path relative to the folder."""
    return {str(path.relative_to(folder)): _describe(path) for path in _files(folder)}


def _describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path), "content": content_of(path)}
