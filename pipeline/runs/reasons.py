"""The reasons why a task would run: its differences from the nearest artifact of the same task, down to config keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from data.wording import counted
from pipeline.engine import catalogue
from pipeline.engine.key import module_digests
from pipeline.engine.stage import Stage
from pipeline.store.artifact import at

MOST_NAMED = 3  # maximal number of videos or sentences to name in a reason; more are only counted

Manifest = Mapping[str, Any]


def nearest(task: Stage) -> Manifest | None:
    """Return the manifest of the artifact with the same label and the fewest differences, or None if there is none."""
    found = manifests(Path(task.store), task.stage).get(task.label, ())
    return min(found, key=lambda manifest: (len(differences(task, manifest)), manifest["key"]), default=None)


@cache
def manifests(store: Path, stage: str) -> dict[str, list[Manifest]]:
    """Return all undamaged manifests of a stage by label; they are read once per process."""
    found: dict[str, list[Manifest]] = {}
    for path in sorted((store / stage).glob("*/manifest.json")):
        if (manifest := at(path)) is not None:
            found.setdefault(manifest["label"], []).append(manifest)
    return found


@cache
def modules(implementation: str) -> dict[str, str]:
    """Return the code digests of a stage by module; they are computed once per process."""
    return module_digests(implementation)


def differences(task: Stage, manifest: Manifest) -> list[str]:
    """List the differences of a task from an artifact: in config keys, code, raw records and existing inputs."""
    return [
        *_of_sections(manifest["ingredients"]["sections"], task.settings()),
        *_of_code(manifest["modules"], modules(task.implementation)),
        *_of_members(task, manifest),
        *_of_inputs(task, manifest),
    ]


def _of_sections(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    for name in sorted(new):
        before, after = old.get(name, {}), new[name]
        for key in [*after, *(key for key in before if key not in after)]:
            if before.get(key) != after.get(key) or (key in before) != (key in after):
                was = _value(before[key]) if key in before else "(no such key)"
                found.append(f"{name}.{key} {was} -> {_value(after[key]) if key in after else '(no such key)'}")
    return found


def _value(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def _of_code(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    found = [f"code: {name} changed" for name in sorted(new) if name in old and old[name] != new[name]]
    found += [f"code: {name} is new" for name in sorted(new) if name not in old]
    return found + [f"code: {name} is gone" for name in sorted(old) if name not in new]


def _of_members(task: Stage, manifest: Manifest) -> list[str]:
    name = manifest["experiment"]["catalogue"]
    if name == task.catalogue:
        return []
    if not catalogue.exists(Path(task.store), name):
        return ["the raw files of the nearest artifact are not known any more"]
    earlier = type(task)(**{**task.param_kwargs, "catalogue": name})
    try:
        old, new = (catalogue.identity(each.raw_members()) for each in (earlier, task))
    except KeyError:  # the earlier catalogue has no such shard or no such role
        return ["its shard is new"]
    found = [f"{key} replaced" for key in sorted(new["files"]) if old["files"].get(key) != new["files"][key]]
    for kind, noun in (("videos", "video"), ("queries", "sentence")):
        found += _of_records(old["records"].get(kind, []), new["records"].get(kind, []), noun)
    others = [
        key
        for key in new["records"]
        if key not in ("videos", "queries") and old["records"].get(key) != new["records"][key]
    ]
    return found + [f"raw records: {key} changed" for key in others]


def _of_records(old: list[Mapping[str, Any]], new: list[Mapping[str, Any]], noun: str) -> list[str]:
    before, after = ({record["id"]: record for record in records} for records in (old, new))
    changed = [name for name in after if name in before and before[name] != after[name]]
    found = []
    itself = [name for name in changed if _is_content(before[name], after[name])]
    for verb, names in (
        ("replaced" if noun == "video" else "edited", itself),
        ("annotated anew", [name for name in changed if name not in itself]),
        ("added", [name for name in after if name not in before]),
        ("removed", [name for name in before if name not in after]),
    ):
        if len(names) > MOST_NAMED:
            found.append(f"{len(names)} {noun}s {verb}")
        else:
            found += [f"{noun} {name} {verb}" for name in names]
    return found


def _is_content(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether the video or the sentence itself changed, rather than its annotations."""
    return any(before.get(key) != after.get(key) for key in ("sha256", "text", "height", "width", "frames"))


def _of_inputs(task: Stage, manifest: Manifest) -> list[str]:
    """List the inputs that exist and have different content; inputs that do not exist yet cannot be compared."""
    old = manifest["ingredients"]["inputs"]
    new = {f"{number:04d} {below.stage}": below for number, below in enumerate(task.upstream_tasks)}
    if sorted(old) != sorted(new):
        return [f"it has {counted(len(new), 'input')} instead of {len(old)}"]
    changed = [below for name, below in new.items() if below.complete() and below.content() != old[name]]
    return [f"{below.stage} {below.label} came out otherwise".replace("  ", " ") for below in changed[:MOST_NAMED]]
