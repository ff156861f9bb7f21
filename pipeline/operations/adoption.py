"""Adoption: reuse of old artifacts after a change of code that changes no results.

A seeded sample of a stage's tasks is built with the new code. If every sampled artifact equals the old one, the other
old artifacts are published under their new keys, as hard links to the same files with the evidence in the manifest.
A later rebuild with different content is refused like any other content mismatch. `revoke` undoes the adoption.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.engine.key import module_digests
from pipeline.engine.stage import Stage
from pipeline.runs import building, run
from pipeline.runs.reasons import Manifest, manifests
from pipeline.store.artifact import Artifact, StoreError
from pipeline.store.artifact_diff import first_difference

OF_THE_OLD = ("stage", "key", "content", "attempt", "files")  # fields of a manifest that are not copied to the new one


class CannotAdopt(ValueError):
    """Error if no artifact can be adopted; the message gives the reason and the remedy."""


@dataclass(frozen=True)
class Adoption:
    """The result of an adoption: the labels of the compared and of the adopted tasks, and the first difference.

    The difference is None if there is none.
    """

    compared: list[str]
    adopted: list[str]
    difference: str | None


@dataclass(frozen=True)
class Candidate:
    """An incomplete task and an artifact from which it differs only in its code."""

    task: Stage
    old: Artifact
    manifest: Manifest


def adopt(config: Config, store: Path, stage: str, sample: int, seed: int, workers: int) -> Adoption:
    """Adopt the existing artifacts of a stage, if a sample of them is equal when built with the current code.

    Raises `CannotAdopt` if no artifact differs only in its code, and `StageFailed` if the sample cannot be built.
    """
    tasks = _tasks(config, store, stage)
    candidates = _candidates(tasks)
    chosen = random.Random(seed).sample(candidates, min(sample, len(candidates)))
    sampled: list[Stage] = [candidate.task for candidate in chosen]
    run.execute(sampled, run.ready(config, sampled), workers, None, time.monotonic())
    compared = [candidate.task.label for candidate in chosen]
    for candidate in chosen:
        built = _place(candidate.task)
        if built.content() != candidate.manifest["content"]:
            return Adoption(compared, [], f"{stage} {candidate.task.label}: {first_difference(candidate.old, built)}")
    evidence = {
        "sample": [
            [candidate.task.label, _place(candidate.task).key, candidate.manifest["content"]] for candidate in chosen
        ],
        "of": len(candidates),
        "seed": seed,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": os.uname().nodename,
    }
    others = [candidate for candidate in candidates if candidate not in chosen]
    for candidate in others:
        _take(candidate, evidence)
    return Adoption(compared, [candidate.task.label for candidate in others], None)


def revoke(config: Config, store: Path, stage: str) -> list[str]:
    """Delete the adopted artifacts of a stage and return their labels. Raises `StoreError` if one is in use."""
    revoked = []
    for task in _tasks(config, store, stage):
        artifact = task.artifact()
        manifest = None if artifact is None else artifact.manifest()
        if artifact is None or manifest is None or "adopted" not in manifest:
            continue
        with artifact.unused() as unused:
            if not unused:
                raise StoreError(f"{stage} {task.label} is in use; try again when no run reads it")
            artifact.delete()
        revoked.append(task.label)
    return revoked


def _tasks(config: Config, store: Path, stage: str) -> list[Stage]:
    found = [task for task in building.all_tasks(run.prepare(config, store, "Report")) if task.stage == stage]
    if not found:
        raise CannotAdopt(f"{stage} is no part of this experiment")
    return found


def _candidates(tasks: Sequence[Stage]) -> list[Candidate]:
    """Return the incomplete tasks, each with an artifact of the old code; that is the code of most such artifacts.

    Raises `CannotAdopt` if an input is missing, if all tasks are complete, or if no artifact differs only in its code.
    """
    found = []
    for task in tasks:
        ingredients = task.ingredients()
        if ingredients is None:
            missing = sorted({below.stage for below in task.upstream_tasks if below.content() is None})
            raise CannotAdopt(
                f"{task.stage} {task.label}: its inputs are not there; adopt, or run, {' and '.join(missing)} first"
            )
        if not task.complete():
            found += [Candidate(task, *old) for old in _differing_in_code_alone(task, ingredients)]
    if all(task.complete() for task in tasks):
        raise CannotAdopt(f"{tasks[0].stage}: everything is there under the code as it is; nothing to adopt")
    if not found:
        raise CannotAdopt(
            f"{tasks[0].stage}: no whole artifact differs in its code alone; see `acga why {tasks[0].stage} CONFIG`"
        )
    codes = Counter(candidate.manifest["ingredients"]["code"] for candidate in found)
    code = max(codes, key=lambda each: (codes[each], each))
    of_code = [candidate for candidate in found if candidate.manifest["ingredients"]["code"] == code]
    return list({candidate.task.task_id: candidate for candidate in of_code}.values())


def _differing_in_code_alone(task: Stage, ingredients: dict[str, Any]) -> list[tuple[Artifact, Manifest]]:
    store = Path(task.store)
    found = []
    for manifest in manifests(store, task.stage).get(task.label, ()):
        old = Artifact(store, task.stage, manifest["key"])
        if manifest["ingredients"] | {"code": task.code} == ingredients and old.complete():
            found.append((old, manifest))
    return found


def _take(candidate: Candidate, evidence: dict[str, Any]) -> None:
    """Publish an old artifact's files under the new key. Raises `StoreError` if they are damaged."""
    task, old = candidate.task, candidate.manifest
    ingredients = task.ingredients()
    likeness = task.likeness(ingredients) if ingredients is not None else None
    modules = module_digests(task.implementation)
    changed = sorted(name for name in {*modules, *old["modules"]} if modules.get(name) != old["modules"].get(name))
    code = {"old": old["ingredients"]["code"], "new": task.code}
    adopted = {"from": old["key"], "stage": task.stage, "code": code, "modules": changed, **evidence}
    if "adopted" in old:
        adopted["earlier"] = old["adopted"]
    facts = {name: value for name, value in old.items() if name not in OF_THE_OLD} | {
        "ingredients": ingredients,
        "from": [[below.stage, below.label, _place(below).key] for below in task.upstream_tasks],
        "modules": modules,
        "experiment": {"sections": task.values, "catalogue": task.catalogue},
        "adopted": adopted,
        **({"likeness": likeness} if likeness else {}),
    }
    place = _place(task)
    with place.lock(), candidate.old.reading():
        if candidate.old.damaged():
            raise StoreError(f"{task.stage} {task.label}: {candidate.old.folder} is damaged; `acga run` builds it anew")
        attempt = place.begin()
        for name in old["files"]:
            (attempt / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(candidate.old.files() / name, attempt / name)
        place.publish(attempt, dict(old["files"]), facts)


def _place(task: Stage) -> Artifact:
    artifact = task.artifact()
    if artifact is None:
        raise StoreError(f"{task.stage} {task.label}: an input is gone; run again")
    return artifact
