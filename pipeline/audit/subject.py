"""The subject of an audit: the artifacts behind one report, according to their manifests.

It does not depend on the current code: the report is found by its config, and all other artifacts by the manifests.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.engine import catalogue
from pipeline.engine.stage import Stage
from pipeline.graph import STAGES, Report
from pipeline.store.artifact import Artifact, DamagedManifest, of

BY_NAME = {stage.__name__: stage for stage in STAGES}
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """One artifact: its label, its location, and its manifest or the reason why that cannot be read.

    The label is the one by which the consumer names the artifact. The builder may have used another one, since one
    artifact can belong to both the train and the test set.
    """

    label: str
    place: Artifact
    manifest: Manifest | None
    trouble: str = ""
    aside: bool = False  # see `behind`

    @property
    def name(self) -> str:
        """Return a readable name: stage and label."""
        return f"{self.place.stage} {self.label}".strip()

    @property
    def attempt(self) -> Path:
        """Return the folder of the artifact's files. Raises ValueError if there is no manifest."""
        return self.place.folder / str(self.known["attempt"])

    @property
    def known(self) -> Manifest:
        """Return the manifest. Raises ValueError if there is none."""
        if self.manifest is None:
            raise ValueError(f"{self.name}: {self.trouble}")
        return self.manifest


@dataclass(frozen=True)
class Subject:
    """A config, its report, and all artifacts that the report was made from, inputs first."""

    config: Config
    store: Path
    nodes: tuple[Node, ...]
    absence: str = ""  # why there is no report

    def of(self, *stages: str) -> list[Node]:
        """Return the nodes of some stages whose manifests can be read, in order."""
        return [node for node in self.nodes if node.place.stage in stages and node.manifest is not None]

    @property
    def whole(self) -> list[Node]:
        """Return all nodes whose manifests can be read."""
        return [node for node in self.nodes if node.manifest is not None]

    @property
    def report(self) -> Node:
        """Return the node of the report, which is the last one."""
        return self.nodes[-1]

    @property
    def catalogue(self) -> str:
        """Return the name of the catalogue with which the report was made."""
        return str(self.report.known["experiment"]["catalogue"])

    def task(self, node: Node) -> Stage:
        """Return the task of a node with the current code and the recorded config and catalogue.

        Raises KeyError or ValueError if the current code cannot read them.
        """
        stage, experiment = BY_NAME[node.place.stage], node.known["experiment"]
        parameters = task_parameters(node)
        places = {"store": str(self.store), "journal": str(self.store / "journal" / "audit.jsonl")}
        return stage.of(experiment["sections"], catalogue=experiment["catalogue"], **places, **parameters)


def task_parameters(node: Node) -> dict[str, Any]:
    """Return the parameters that distinguish a node's task within its stage, from the label in the manifest."""
    stage = BY_NAME[node.place.stage]
    own = node.label if node.manifest is None else str(node.manifest["label"])
    role, _, stream = own.partition(" ")
    names = {name for name, _ in stage.get_params()}  # type: ignore[no-untyped-call]
    found: dict[str, Any] = {}
    if "role" in names:
        found["role"] = role.partition("/")[0]
    if "shard" in names:
        found["shard"] = int(role.partition("/")[2])
    if "stream" in names:
        found["stream"] = stream or role
    return found


def subject(config: Config, store: Path) -> Subject:
    """Find the newest report of a config in a store, and all artifacts behind it."""
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
    """Return the keys in which two configs differ, with both values."""
    return [
        f"{section}.{key} {old.get(section, {}).get(key)!r} -> {new[section].get(key)!r}"
        for section in sorted(new)
        for key in sorted({*new[section], *old.get(section, {})})
        if old.get(section, {}).get(key) != new[section].get(key)
    ]


def read(place: Artifact, label: str) -> Node:
    """Return the node of an artifact; if the manifest is missing or damaged, the node states this."""
    try:
        manifest = place.recorded()
    except DamagedManifest as error:
        return Node(label, place, None, str(error))
    if manifest is None:
        return Node(label, place, None, f"{place.folder}: there is no manifest")
    return Node(label or manifest["label"], place, manifest)


def behind(report: Node) -> list[Node]:
    """Return the report and all upstream artifacts that the manifests name, inputs first, each once.

    A stage that was not rebuilt because its inputs had equal content still names the inputs that it was built from.
    Another artifact with the same content may have replaced such an input since; artifacts that are reached only
    through a replaced one are marked `aside`.
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
    """Return a sort key that puts train before test."""
    return (0 if label.startswith("train") else 1, label)


def raw(subject: Subject) -> dict[str, Any] | None:
    """Return the catalogue with which the report was made, or None if it is missing or damaged."""
    if not catalogue.exists(subject.store, subject.catalogue):
        return None
    return catalogue.read(subject.store, subject.catalogue)
