"""Checks that the files of artifacts are unchanged since they were published."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from extractors.cores import usable_cores
from pipeline.engine.progress import Progress
from pipeline.engine.stage import Stage
from pipeline.store.artifact import Artifact

log = logging.getLogger(__name__)


def drop_damaged(tasks: Sequence[Stage]) -> list[Stage]:
    """Read every published file of the tasks, delete the damaged ones and log them; return the tasks to build again.

    Evicted artifacts are skipped.
    """
    found = [(task, artifact) for task in tasks if (artifact := task.artifact()) is not None]
    present = [(task, artifact) for task, artifact in found if not artifact.evicted]
    damaged = []
    with Progress("verify") as progress, ThreadPoolExecutor(usable_cores()) as pool:  # hashing releases the GIL
        results = pool.map(_damaged, (artifact for _, artifact in present))
        for done, ((task, artifact), names) in enumerate(zip(present, results, strict=True), start=1):
            progress.update(done, len(present))
            if names is None:
                continue
            damaged.append(task)
            with artifact.lock():
                for name in names:
                    log.warning("%s %s: %s is damaged; it is built again", task.stage, task.label, name)
                if names:
                    artifact.drop(names)
    return damaged


def _damaged(artifact: Artifact) -> list[str] | None:
    """Return the damaged files, an empty list if the manifest itself is damaged, or None if nothing is damaged."""
    if artifact.manifest() is None:
        return [] if (artifact.folder / "manifest.json").exists() else None
    return artifact.damaged() or None
