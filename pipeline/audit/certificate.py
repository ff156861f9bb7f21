"""The certificate of a store: a Merkle tree of a few kilobytes over content hashes, stage -> task (shard) -> clip.

Two machines that built the same experiment can compare their certificates to find the first stage, shard and clip that
differ, without transferring features. A certificate does not depend on paths, times, workers or container bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.audit.subject import BY_NAME, Node, Subject
from pipeline.config import ConfigError

FORMAT = 1
DIGITS = 8  # kept hexadecimal digits of a clip's digest; enough to distinguish two builds of one clip

Certificate = dict[str, Any]


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
    """Describe the first stage, task and clip in which two certificates differ, or return None if they are equal.

    Raises `ConfigError` if the other certificate has another format version.
    """
    if theirs.get("format") != FORMAT:
        raise ConfigError(f"certificate of format {theirs.get('format')!r}; this version compares format {FORMAT}")
    if theirs["root"] == own["root"]:
        return None
    for stage in BY_NAME:
        ours, others = own["stages"].get(stage), theirs["stages"].get(stage)
        if ours == others:
            continue
        if ours is None or others is None:
            return f"{stage} is only in {'theirs' if ours is None else 'ours'}"
        if sorted(ours["tasks"]) != sorted(others["tasks"]):
            return f"{stage} has {len(ours['tasks'])} tasks here and {len(others['tasks'])} there"
        return _in_stage(subject, stage, ours["tasks"], others["tasks"])
    return "the roots, but nothing below them: the certificate was changed by hand"


def _in_stage(subject: Subject, stage: str, ours: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    for node in subject.of(stage):
        if node.aside:
            continue
        one, other = ours[node.label], others[node.label]
        if one == other:
            continue
        names = list(clips(node) or sorted(node.known["files"]))
        kind = "clips" if "clips" in one else "files"
        mine, yours = _cut(one.get(kind, "")), _cut(other.get(kind, ""))
        if len(mine) != len(yours):
            return f"{node.name}: {len(mine)} {kind} here, {len(yours)} there"
        first = next((name for name, a, b in zip(names, mine, yours, strict=True) if a != b), None)
        apart = sum(a != b for a, b in zip(mine, yours, strict=True))
        if first is None:
            return f"{node.name}: its other files, or attributes"
        return f"{node.name}, {kind[:-1]} {first} ({apart} of {len(mine)} {kind} of it differ)"
    return stage


def _cut(digits: str) -> Sequence[str]:
    return [digits[place : place + DIGITS] for place in range(0, len(digits), DIGITS)]


def load(path: Path) -> Certificate:
    """Read a certificate from a file. Raises `ConfigError` if the file is not a certificate."""
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict) or "stages" not in found:
            raise ValueError("it has no stages")
        return found
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no certificate ({error}); see `acga audit CONFIG --certificate FILE`") from error
