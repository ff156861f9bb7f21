"""The certificate of a store: a Merkle tree of a few kilobytes over content hashes, stage -> task (shard) -> clip.

Two machines that built the same experiment can compare their certificates to find the first stage, shard and clip that
differ, without transferring features. A certificate does not depend on paths, times, workers or container bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from data import strict_json
from data.wording import counted, numbered, shown
from pipeline.audit.subject import BY_NAME, Node, Subject
from pipeline.config import ConfigError
from pipeline.sections.document import WrongDocument, checked
from pipeline.sections.section import Section

FORMAT = 1
DIGITS = 8  # kept hexadecimal digits of a clip's digest; enough to distinguish two builds of one clip

Certificate = dict[str, Any]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Digits = Annotated[str, Field(pattern=rf"^([0-9a-f]{{{DIGITS}}})*$")]


class TaskEntry(Section):
    """A task in a certificate: its content hash, and the shortened digests of its clips or of its files."""

    root: Digest
    clips: Digits | None = None
    files: Digits | None = None

    @model_validator(mode="after")
    def _has_leaves_of_one_kind(self) -> Self:
        if (self.clips is None) == (self.files is None):
            raise ValueError("it has clips and files or neither of them; expected one of them")
        return self


class StageEntry(Section):
    """A stage in a certificate: its root, which follows from its tasks, and the tasks by label."""

    root: Digest
    tasks: dict[str, TaskEntry] = Field(min_length=1)


class Document(Section):
    """A certificate as a file holds it."""

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    root: Digest
    stages: dict[str, StageEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _follows_from_its_tasks(self) -> Self:
        for stage, entry in self.stages.items():
            if stage not in BY_NAME:
                raise ValueError(f"there is no stage {shown(stage)}; expected those of this version")
            if entry.root != _joined(entry.tasks[label].root for label in sorted(entry.tasks)):
                raise ValueError(f"the root of {stage} does not follow from its tasks; it was changed by hand")
        if self.root != _joined(f"{name} {self.stages[name].root}" for name in BY_NAME if name in self.stages):
            raise ValueError("its root does not follow from its stages; it was changed by hand")
        return self


def certificate(subject: Subject) -> Certificate:
    """Return the certificate of all artifacts behind a report; for evicted ones it uses the manifests' records."""
    stages: dict[str, Any] = {}
    for stage in BY_NAME:
        tasks = {node.label: _of_node(node) for node in subject.of(stage) if not node.aside}
        if tasks:
            stages[stage] = {"root": _joined(tasks[label]["root"] for label in sorted(tasks)), "tasks": tasks}
    root = _joined(f"{name} {entry['root']}" for name, entry in stages.items())
    return {"format": FORMAT, "root": root, "stages": stages}


def _of_node(node: Node) -> dict[str, Any]:
    """Return the root of a task, and the shortened digests of its clips or files in order."""
    leaves = clips(node)
    if leaves is None:
        files = {name: file["content"] for name, file in sorted(node.known["files"].items())}
        return {"root": node.known["content"], "files": "".join(content[:DIGITS] for content in files.values())}
    return {"root": node.known["content"], "clips": "".join(digest[:DIGITS] for digest in leaves.values())}


def clips(node: Node) -> dict[str, str] | None:
    """Return the digest of each row of the artifact's shards by id, or None if it has no shard or was evicted."""
    shards = [name for name in node.known["files"] if name.endswith(".h5")]
    if not shards or node.place.evicted:
        return None
    from extractors.shards.shard import ShardReader

    found: dict[str, str] = {}
    for name in sorted(shards):
        reader = ShardReader(node.attempt / name)
        found |= {id: reader.row_digest(row) for row, id in enumerate(reader.ids)}
        reader.close()
    return found


def _joined(parts: Any) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def compare(subject: Subject, own: Certificate, theirs: Mapping[str, Any]) -> str | None:
    """Describe the first stage, task and clip in which two certificates differ, or return None if they are equal."""
    for stage in BY_NAME:
        ours, others = own["stages"].get(stage), theirs["stages"].get(stage)
        if ours == others:
            continue
        if ours is None or others is None:
            return f"{stage} is only in {'theirs' if ours is None else 'ours'}"
        if alone := sorted(ours["tasks"].keys() ^ others["tasks"].keys()):
            here = counted(len(ours["tasks"]), "task")
            return f"{stage} has {here} here and {len(others['tasks'])} there; {shown(alone[0])} is only on one side"
        if (parting := _in_stage(subject, stage, ours["tasks"], others["tasks"])) is not None:
            return parting
    return None


def _in_stage(subject: Subject, stage: str, ours: Mapping[str, Any], others: Mapping[str, Any]) -> str | None:
    """Describe the first difference in the tasks of a stage, which have the same labels.

    Tasks of equal content are equal, also if the files of one are evicted, so that its clips are not known.
    """
    for node in subject.of(stage):
        if node.aside:
            continue
        one, other = ours[node.label], others[node.label]
        kind = "clips" if "clips" in one else "files"
        if one == other or (one["root"] == other["root"] and kind not in other):
            continue
        names = list(clips(node) or sorted(node.known["files"]))
        mine, yours = _cut(one[kind]), _cut(other.get(kind, ""))
        if len(mine) != len(yours):
            return f"{node.name}: {counted(len(mine), kind[:-1])} here, {len(yours)} there"
        first = next((name for name, a, b in zip(names, mine, yours, strict=True) if a != b), None)
        apart = sum(a != b for a, b in zip(mine, yours, strict=True))
        if first is None:
            return f"{node.name}: its other files, or attributes"
        differ = f"{apart} of {counted(len(mine), kind[:-1])} of it {numbered(len(mine), 'differs', 'differ')}"
        return f"{node.name}, {kind[:-1]} {first} ({differ})"
    return None


def _cut(digits: str) -> Sequence[str]:
    return [digits[place : place + DIGITS] for place in range(0, len(digits), DIGITS)]


def load(path: Path) -> Certificate:
    """Read a certificate from a file. Raises `ConfigError` if the file is not a certificate."""
    try:
        found = strict_json.read(path)
        version = found.get("format") if isinstance(found, dict) else None
        if type(version) is int and version != FORMAT:
            raise ConfigError(
                f"{path}: a certificate of format {shown(version)}; this version compares format {FORMAT}"
            )
        return checked(Document, found).model_dump(exclude_none=True)
    except OSError as error:
        raise ConfigError(
            f"{path} is no certificate ({error.strerror}); see `acga audit CONFIG --certificate FILE`"
        ) from None
    except (strict_json.NotJSON, WrongDocument) as error:
        raise ConfigError(f"{path} is no certificate ({error}); see `acga audit CONFIG --certificate FILE`") from None
