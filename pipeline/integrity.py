"""Whether artifacts are still, byte for byte, what was published."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.artifact import Artifact
from pipeline.progress import Progress
from pipeline.stage import Stage

log = logging.getLogger(__name__)


def drop_damaged(tasks: Sequence[Stage]) -> list[Stage]:
    """Read every published file of the tasks and delete those that are damaged, which is said; the tasks to be built
    again for that. What was evicted on purpose is left as it is."""
    found = [(task, artifact) for task in tasks if (artifact := task.artifact()) is not None]
    present = [(task, artifact) for task, artifact in found if not artifact.evicted]
    damaged = []
    with Progress("verify") as progress, ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing frees the interpreter
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
    """The damaged files, none where it is the manifest itself that is damaged; None where nothing is."""
    if artifact.manifest() is None:
        return [] if (artifact.folder / "manifest.json").exists() else None
    return artifact.damaged() or None
