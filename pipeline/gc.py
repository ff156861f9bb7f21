"""What a store holds that nobody needs: what no given config reaches, and attempts that no manifest names.

Never touched: what is built or read at this moment, what the experiments of running processes reach, what is pinned.
Where an input is missing, it cannot be told which artifact of its consumers is theirs: all of these are kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline import catalogue, run, running
from pipeline.artifact import Artifact, of
from pipeline.config import Config
from pipeline.graph import STAGES
from pipeline.stage import Stage

Kind = Literal["kept", "pinned", "in use", "unreached", "attempts", "evicted"]
GARBAGE: tuple[Kind, ...] = ("unreached", "attempts")


@dataclass
class Found:
    """What there is of one kind of a stage: how many folders, their bytes, and where they lie."""

    folders: list[str] = field(default_factory=list)
    bytes: int = 0

    def add(self, folder: Path) -> None:
        self.folders.append(str(folder))
        self.bytes += size(folder)


Collected = dict[str, dict[Kind, Found]]


def collect(configs: Sequence[Config], store: Path, delete: bool, evict: Sequence[str]) -> Collected:
    """What is there of each stage, by kind; with `delete` the garbage is deleted.

    `evict` names stages of which the files that the configs reach are dropped; a rebuild must give the same content.
    """
    with running.alone(store):
        asked = [task for config in configs for task in run.everything(run.asked(config, store, "Report"))]
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
    """Pin, or no longer pin, every artifact that the configs reach; how many there are."""
    count = 0
    with running.gate(store):
        tasks = [task for config in configs for task in run.everything(run.asked(config, store, "Report"))]
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
    """The artifacts that some tasks are, or may be."""

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
        """Whether it is one of theirs of which nothing was published yet."""
        folders = {(stage, key[:16]) for stage, key in self.keys}
        return artifact.content() is None and (artifact.stage, artifact.folder.name) in folders

    def __contains__(self, artifact: Artifact) -> bool:
        if (artifact.stage, artifact.key) in self.keys:
            return True
        manifest = artifact.manifest()
        return manifest is not None and (artifact.stage, manifest["label"]) in self.unknown


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(below.lstat().st_size for below in path.rglob("*") if below.is_file())


def _of_others(store: Path) -> Iterator[Stage]:
    """The tasks that running processes are about."""
    stages = {stage.__name__: stage for stage in STAGES}
    for roots in running.others(store):
        yield from run.everything([stages[name](**parameters) for name, parameters in roots])


def _artifacts(store: Path) -> list[Artifact]:
    """Every folder of a stage; where no manifest says its key, with what its name says of it."""
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
        return "kept"  # to be gone on with
    return "unreached"


def _attempts(artifact: Artifact, found: dict[Kind, Found], delete: bool) -> None:
    """What killed builds left: attempts that the manifest does not name, and drafts of manifests."""
    manifest = artifact.manifest()
    named = None if manifest is None else manifest["attempt"]
    for path in sorted(artifact.folder.glob("attempt-*")):
        if path.name != named:
            found.setdefault("attempts", Found()).add(path)
            if delete:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _catalogues(store: Path, reached: set[str], delete: bool) -> dict[Kind, Found]:
    """Those that no artifact left, and no config, refers to."""
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
    """Generated data sets in which no given config has a video, and those that were never finished."""
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
