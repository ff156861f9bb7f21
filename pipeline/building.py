"""Building one artifact: the recipe gets its job, and what it leaves is described and published."""

from __future__ import annotations

import importlib
import logging
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import environment
from pipeline.artifact import Artifact, at, sha256
from pipeline.key import module_digests
from pipeline.progress import Progress
from pipeline.recipes.job import Job
from pipeline.recipes.units import Known, Units

if TYPE_CHECKING:
    from pipeline.stage import Stage

log = logging.getLogger(__name__)


def build(task: Stage, artifact: Artifact, ingredients: dict[str, Any]) -> dict[str, Any]:
    """Run a task's recipe and publish what it makes; what that cost. The caller holds the artifact's lock.

    Where that fails nothing is left of it but what `resume` holds.
    """
    attempt = artifact.begin()
    try:
        return _build(task, artifact, ingredients, attempt)
    except BaseException:
        artifact.abandon(attempt)
        raise


def _build(task: Stage, artifact: Artifact, ingredients: dict[str, Any], attempt: Path) -> dict[str, Any]:
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
        recipe_of(task)(job)
    facts = {
        "seconds": round(time.monotonic() - started, 3),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "bytes": sum(path.stat().st_size for path in _files(attempt)),
        **({"units": len(job.units.made), "taken_over": len(job.units.taken)} if likeness else {}),
    }
    described = {
        "ingredients": ingredients,
        "label": task.label,
        "from": [[below.stage, below.label, place.key] for below, place in places],
        "modules": module_digests(task.recipe),
        "experiment": {"sections": task.values, "catalogue": task.catalogue},
        "cost": facts,
        "environment": environment.describe(),
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
) -> Job:
    """What the task's recipe is given; `inputs` are the names that each input goes by, and its folder."""
    folders: dict[str, list[Path]] = {}
    for names, folder in inputs:
        for name in names:
            folders.setdefault(name, []).append(folder)
    cache = Path(task.store) / "cache"
    for place in (resume, cache):
        place.mkdir(exist_ok=True)
    return Job(
        sections=task.recipe_sections(),
        members=task.raw_members(),
        inputs={name: tuple(found) for name, found in folders.items()},
        out=out,
        resume=resume,
        cache=cache,
        logs=logs,
        units=units,
        progress=progress,
    )


def recipe_of(task: Stage) -> Callable[[Job], None]:
    """The function that makes the task's files."""
    module, _, function = task.recipe.partition(":")
    found: Callable[[Job], None] = getattr(importlib.import_module(module), function)
    return found


def known_units(store: Path, stage: str, likeness: str) -> dict[str, list[Known]]:
    """The units of all artifacts of a stage that differ from the one to be built in their units alone."""
    known: dict[str, list[Known]] = {}
    for path in sorted((store / stage).glob("*/manifest.json")):
        if likeness.encode() not in path.read_bytes():  # most are of other settings; parsing takes longer
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
    """The content hash of a file: of a shard that of all that a reader can see, of others that of their bytes."""
    if path.suffix != ".h5":
        return sha256(path)
    from extractors import shards  # only where there is a shard: h5py stays out of the parent

    return shards.content_hash(path)


def described_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes, SHA-256 and content hash of every file below a folder, by its place there."""
    return {str(path.relative_to(folder)): _describe(path) for path in _files(folder)}


def _describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path), "content": content_of(path)}
