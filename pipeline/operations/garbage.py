"""Garbage collection: deletion of artifacts that no given config needs and of attempts that no manifest names.

Artifacts are never deleted while they are built or read, if a running process needs them, or if they are pinned. If
an input of a task is missing, the key of the task is unknown, so all artifacts with the task's label are kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.config import Config
from pipeline.engine import catalogue
from pipeline.engine.stage import Stage
from pipeline.graph import STAGES
from pipeline.runs import active_runs, building, run
from pipeline.store.artifact import Artifact, of

Kind = Literal["kept", "pinned", "in use", "unreached", "attempts", "evicted"]
GARBAGE: tuple[Kind, ...] = ("unreached", "attempts")


@dataclass
class Found:
    """The folders of one kind of a stage and their total size in bytes."""

    folders: list[str] = field(default_factory=list)
    bytes: int = 0

    def add(self, folder: Path) -> None:
        self.folders.append(str(folder))
        self.bytes += size(folder)


Collected = dict[str, dict[Kind, Found]]


def collect(configs: Sequence[Config], store: Path, delete: bool, evict: Sequence[str]) -> Collected:
    """Return the folders of each stage by kind; with `delete`, delete the garbage.

    `evict` names stages whose files are deleted although the configs need them; their manifests stay, so that a rebuild
    must give the same content.
    """
    with active_runs.exclusive(store):
        asked = [task for config in configs for task in building.all_tasks(run.asked(config, store, "Report"))]
        needed = [*asked, *(task for task in _of_others(store))]
        reached = Reach(needed)
        own, busy = Reach(asked), Reach([task for task in needed if task not in asked])
        found: Collected = {stage.__name__: {} for stage in STAGES}
        for artifact in _artifacts(store):
            with artifact.unused() as unused:
                kind = _kind(artifact, reached, unused)
                evictable = artifact.stage in evict and artifact in own and artifact not in busy
                if kind == "kept" and evictable and not artifact.evicted:
                    found[artifact.stage].setdefault("evicted", Found()).add(artifact.folder)
                    artifact.evict()
                    continue
                found[artifact.stage].setdefault(kind, Found()).add(artifact.folder)
                if kind == "unreached" and delete:
                    artifact.delete()
                elif unused:
                    _attempts(artifact, found[artifact.stage], delete)
        found["catalogue"] = _catalogues(store, {task.catalogue for task in needed}, delete)
        found["miniature"] = _miniatures(store, {task.catalogue for task in needed}, delete)
    return {stage: kinds for stage, kinds in found.items() if kinds}


def pin(configs: Sequence[Config], store: Path, pinned: bool) -> int:
    """Pin or unpin every published artifact that the configs need, and return their number."""
    count = 0
    with active_runs.starting(store):
        tasks = [task for config in configs for task in building.all_tasks(run.asked(config, store, "Report"))]
        for artifact in {artifact for task in tasks if (artifact := task.artifact()) is not None}:
            if artifact.content() is None:
                continue
            count += 1
            if pinned:
                (artifact.folder / "pin").touch()
            else:
                (artifact.folder / "pin").unlink(missing_ok=True)
    return count


class Reach:
    """The set of artifacts that belong to some tasks, or may belong to them because their key is unknown."""

    def __init__(self, tasks: Sequence[Stage]) -> None:
        self.keys: set[tuple[str, str]] = set()
        self.unknown: set[tuple[str, str]] = set()
        for task in tasks:
            artifact = task.artifact()
            if artifact is None:
                self.unknown.add((task.stage, task.label))
            else:
                self.keys.add((artifact.stage, artifact.key))

    def begun(self, artifact: Artifact) -> bool:
        """Return whether an artifact belongs to one of the tasks and is not published yet."""
        folders = {(stage, key[:16]) for stage, key in self.keys}
        return artifact.content() is None and (artifact.stage, artifact.folder.name) in folders

    def __contains__(self, artifact: Artifact) -> bool:
        if (artifact.stage, artifact.key) in self.keys:
            return True
        manifest = artifact.manifest()
        return manifest is not None and (artifact.stage, manifest["label"]) in self.unknown


def size(path: Path) -> int:
    """Return the size in bytes of a file or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(below.lstat().st_size for below in path.rglob("*") if below.is_file())


def _of_others(store: Path) -> Iterator[Stage]:
    """Yield the tasks that other running processes need."""
    stages = {stage.__name__: stage for stage in STAGES}
    for roots in active_runs.other_runs(store):
        yield from building.all_tasks([stages[name](**parameters) for name, parameters in roots])


def _artifacts(store: Path) -> list[Artifact]:
    """Return the artifact of every folder of a stage; without a manifest, the folder's name serves as the key."""
    folders = [folder for stage in STAGES for folder in sorted((store / stage.__name__).glob("*")) if folder.is_dir()]
    known = [(folder, of(folder / "manifest.json")) for folder in folders]
    return [artifact or Artifact(store, folder.parent.name, folder.name) for folder, artifact in known]


def _kind(artifact: Artifact, reached: Reach, unused: bool) -> Kind:
    if not unused:
        return "in use"
    if artifact.pinned:
        return "pinned"
    if artifact in reached:
        return "kept"
    if reached.begun(artifact):
        return "kept"  # a later run continues it
    return "unreached"


def _attempts(artifact: Artifact, found: dict[Kind, Found], delete: bool) -> None:
    """Find and, with `delete`, delete what killed builds left: attempts that the manifest does not name, and drafts."""
    manifest = artifact.manifest()
    named = None if manifest is None else manifest["attempt"]
    for path in sorted(artifact.folder.glob("attempt-*")):
        if path.name != named:
            found.setdefault("attempts", Found()).add(path)
            if delete:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _catalogues(store: Path, reached: set[str], delete: bool) -> dict[Kind, Found]:
    """Find and, with `delete`, delete the catalogues to which no remaining artifact and no needed task refers."""
    named = {
        str(manifest["experiment"]["catalogue"])
        for artifact in _artifacts(store)
        if (manifest := artifact.manifest()) is not None
    }
    found: dict[Kind, Found] = {}
    for path in sorted((store / "catalogue").glob("*.json")):
        if path.name == "hashes.json":
            continue
        kind: Kind = "kept" if path.stem in named | reached else "unreached"
        found.setdefault(kind, Found()).add(path)
        if kind == "unreached" and delete:
            path.unlink()
    return found


def _miniatures(store: Path, reached: set[str], delete: bool) -> dict[Kind, Found]:
    """Find and, with `delete`, delete miniatures that contain no video of a needed task, and unfinished ones."""
    places = {
        Path(video["path"]).resolve()
        for name in reached
        for entry in catalogue.read(store, name)["sets"].values()
        for video in entry["videos"]
    }
    found: dict[Kind, Found] = {}
    for folder in sorted(path for path in (store / "miniature").glob("*") if path.is_dir()):
        kind: Kind = "kept" if any(place.is_relative_to(folder.resolve()) for place in places) else "unreached"
        found.setdefault(kind, Found()).add(folder)
        if kind == "unreached" and delete:
            shutil.rmtree(folder)
    return found
