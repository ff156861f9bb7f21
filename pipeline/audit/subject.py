"""What is audited: the artifacts behind one report, as their manifests say.

Nothing is taken from the code as it is now: the report is found by its config, everything else by what manifests name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import catalogue
from pipeline.artifact import Artifact, DamagedManifest, of
from pipeline.config import Config
from pipeline.graph import STAGES, Report
from pipeline.stage import Stage

BY_NAME = {stage.__name__: stage for stage in STAGES}
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """One artifact: what its consumer calls it (its maker may have called it otherwise: one can be of the train and of
    the test set), where it lies, and what its manifest says, or why there is none to be had."""

    label: str
    place: Artifact
    manifest: Manifest | None
    trouble: str = ""
    aside: bool = False  # see `behind`

    @property
    def name(self) -> str:
        """Stage and label, for people."""
        return f"{self.place.stage} {self.label}".strip()

    @property
    def attempt(self) -> Path:
        """The folder of its files."""
        return self.place.folder / self.known["attempt"]

    @property
    def known(self) -> Manifest:
        """The manifest, where it was checked that there is one."""
        if self.manifest is None:
            raise ValueError(f"{self.name}: {self.trouble}")
        return self.manifest


@dataclass(frozen=True)
class Subject:
    """A config, its report, and everything that the report was made from; inputs first."""

    config: Config
    store: Path
    nodes: tuple[Node, ...]
    absence: str = ""  # why there is no report

    def of(self, *stages: str) -> list[Node]:
        """The nodes of some stages whose manifests can be read, in order."""
        return [node for node in self.nodes if node.place.stage in stages and node.manifest is not None]

    @property
    def whole(self) -> list[Node]:
        """All nodes whose manifests can be read."""
        return [node for node in self.nodes if node.manifest is not None]

    @property
    def report(self) -> Node:
        """The report's node; it is the last one."""
        return self.nodes[-1]

    @property
    def catalogue(self) -> str:
        """The name of the catalogue that the report was made with."""
        return str(self.report.known["experiment"]["catalogue"])

    def task(self, node: Node) -> Stage:
        """The task of a node as the code is now, with the catalogue of then. Raises where that cannot be read."""
        stage, experiment = BY_NAME[node.place.stage], node.known["experiment"]
        parameters = task_parameters(node)
        places = {"store": str(self.store), "journal": str(self.store / "journal" / "audit.jsonl")}
        return stage.of(experiment["sections"], catalogue=experiment["catalogue"], **places, **parameters)


def task_parameters(node: Node) -> dict[str, Any]:
    """What told the task apart from the others of its stage when the artifact was made, from its label then."""
    stage = BY_NAME[node.place.stage]
    own = node.label if node.manifest is None else str(node.manifest["label"])
    role, _, stream = own.partition(" ")
    names = {name for name, _ in stage.get_params()}
    found: dict[str, Any] = {}
    if "role" in names:
        found["role"] = role.partition("/")[0]
    if "shard" in names:
        found["shard"] = int(role.partition("/")[2])
    if "stream" in names:
        found["stream"] = stream or role
    return found


def subject(config: Config, store: Path) -> Subject:
    """The newest report of a config in a store, and all behind it."""
    values = json.loads(json.dumps({name: getattr(config, name).model_dump() for name in Report.needs()}))
    found, nearest, damaged = [], "", ""
    for path in sorted((store / "Report").glob("*/manifest.json")):
        node = read(of(path) or Artifact(store, "Report", path.parent.name), "")
        if node.manifest is None:
            damaged = f"{path}: {node.trouble}"
        elif node.manifest["experiment"]["sections"] == values:
            found.append((path.stat().st_mtime_ns, node))
        else:
            nearest = ", ".join(differing(node.manifest["experiment"]["sections"], values))
    if not found:
        reason = f"no report in {store} was made by this config"
        reason += f"; another one differs in {nearest}" if nearest else ""
        return Subject(config, store, (), reason + (f"; {damaged}" if damaged else ""))
    _, report = max(found, key=lambda each: each[0])
    return Subject(config, store, tuple(behind(report)))


def differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The keys in which two configs differ, with both values."""
    return [
        f"{section}.{key} {old.get(section, {}).get(key)!r} -> {new[section].get(key)!r}"
        for section in sorted(new)
        for key in sorted({*new[section], *old.get(section, {})})
        if old.get(section, {}).get(key) != new[section].get(key)
    ]


def read(place: Artifact, label: str) -> Node:
    """A node, whatever state its manifest is in."""
    try:
        manifest = place.recorded()
    except DamagedManifest as error:
        return Node(label, place, None, str(error))
    if manifest is None:
        return Node(label, place, None, f"{place.folder}: there is no manifest")
    return Node(label or manifest["label"], place, manifest)


def behind(report: Node) -> list[Node]:
    """The report and everything upstream by the manifests' own words, inputs first, each once.

    A stage that was cut off early names the inputs that it was made from then, of which another artifact with the same
    content may stand in its place now. What is reached through such a one alone stands `aside`.
    """
    found: dict[tuple[str, str], Node] = {}
    taken: dict[tuple[str, str], list[str]] = {}  # contents by stage and label
    waiting, aside = [report], list[Node]()
    while waiting or aside:
        node = waiting.pop(0) if waiting else replace(aside.pop(0), aside=True)
        name, title = (node.place.stage, node.place.key), (node.place.stage, node.label)
        if name in found:
            continue
        content = (node.manifest or {}).get("content", node.place.key)
        if not node.aside and content in taken.get(title, []):
            aside.append(node)
            continue
        contents = taken.setdefault(title, [])
        contents.append(content)
        found[name] = replace(node, label=f"{node.label} #{len(contents)}".strip()) if len(contents) > 1 else node
        below = [
            read(Artifact(report.place.store, stage, key), label)
            for stage, label, key in (node.manifest or {}).get("from", [])
        ]
        (aside if node.aside else waiting).extend(below)
    stages = list(BY_NAME)
    return sorted(found.values(), key=lambda node: (stages.index(node.place.stage), _order(node.label)))


def _order(label: str) -> tuple[int, str]:
    """Train before test, as everywhere."""
    return (0 if label.startswith("train") else 1, label)


def raw(subject: Subject) -> dict[str, Any] | None:
    """The catalogue that the report was made with; None where it is gone or damaged."""
    if not catalogue.exists(subject.store, subject.catalogue):
        return None
    return catalogue.read(subject.store, subject.catalogue)
