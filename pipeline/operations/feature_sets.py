"""Sets of visual features in their different storage formats, which `acga diff` compares.

A set is an artifact of VisualFeatures or Imported, or a folder in the authors' layout. `acga diff` also accepts a
config, which stands for the features that it gives for its raw videos.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.wording import counted
from pipeline.engine import catalogue
from pipeline.operations import exchange, origins
from pipeline.store import locks
from pipeline.store.artifact import Artifact, StoreError, sealed

if TYPE_CHECKING:
    import numpy as np

    from extractors.authors.reader import ReferenceFolder
    from extractors.shards.shard import ShardReader

Read = Callable[[], "np.ndarray"]


class UnknownFeatures(ValueError):
    """Error of features that do not exist or cannot be compared; the message says what was found and expected."""


@dataclass(frozen=True)
class Entry:
    """A row of a feature set: its float32 features, and the names of its clip and sample, or None if unknown.

    A clip is named "<video>/<labelled frame>".
    """

    clip: str | None
    sample: str | None
    read: Read


@dataclass(frozen=True)
class FeatureSet:
    """A set of features and its origin as given by `exchange.origin`, or None if the origin is unknown."""

    path: Path
    stream: str
    entries: tuple[Entry, ...]
    origin: dict[str, Any] | None = field(default=None)


def find(path: Path) -> FeatureSet:
    """Open the features at a path. Raises `UnknownFeatures` if there are none, and the errors of their readers."""
    if (path / "manifest.json").is_file():
        return _artifact(path)
    if path.is_dir() and list(path.glob("video_*_iccv.h5")):
        return _folder(path)
    raise UnknownFeatures(
        f"{path}: no features there; expected <store>/VisualFeatures/<key>, <store>/Imported/<key>, a folder in the"
        " layout of the authors' code, or a config (.toml) for its raw videos"
    )


def _artifact(path: Path) -> FeatureSet:
    from extractors.shards.shard import ShardReader  # imported here because it loads h5py

    manifest = sealed(path / "manifest.json")
    if manifest["stage"] not in ("VisualFeatures", "Imported"):
        raise UnknownFeatures(f"{path}: an artifact of {manifest['stage']}, which has no features")
    files = path / manifest["attempt"]
    locks.keep(path / "lock")
    reader, experiment = ShardReader(files / "visual.h5"), manifest["experiment"]
    rows = {clip: row for row, clip in enumerate(reader.ids)}
    if manifest["stage"] == "Imported":
        samples = json.loads(_unchanged(files, "samples.json", manifest))["samples"]
        named = ((None, sample["id"].rpartition("@")[0], rows[sample["clip"]]) for sample in samples)
        entries = tuple(Entry(clip, sample, partial(_restored, reader, row)) for clip, sample, row in named)
        return FeatureSet(path, experiment["sections"]["visual"]["modality"], entries)
    store = path.parent.parent
    stream = manifest["label"].rpartition(" ")[2]
    entries = tuple(Entry(clip, None, partial(_restored, reader, row)) for clip, row in rows.items())
    return FeatureSet(path, stream, entries, _origin(store, manifest))


def _unchanged(files: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """Return the content of a small file of an artifact. Raises `StoreError` if it is not what the manifest says."""
    path = files / name
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != manifest["files"][name]["sha256"]:
        raise StoreError(f"{path} is gone or was changed after it was written; delete the artifact and run again")
    return content


def _origin(store: Path, manifest: dict[str, Any]) -> dict[str, Any] | None:
    experiment = manifest["experiment"]
    if not catalogue.exists(store, experiment["catalogue"]):
        return None
    raw = catalogue.read(store, experiment["catalogue"])
    trunks = [Artifact(store, stage, key) for stage, _, key in manifest["from"] if stage == "PretrainedTrunk"]
    found = exchange.described(experiment["sections"], raw)
    return found | {"trunk": str(trunks[0].files().resolve()) if trunks else None}


def _restored(reader: ShardReader, row: int) -> np.ndarray:
    from extractors.shards.float16 import to_float32

    return to_float32(reader.read("features", row), float(reader.read("scale", row)))


def _folder(path: Path) -> FeatureSet:
    from extractors.authors.reader import ReferenceFolder

    folder = ReferenceFolder(path)
    origin = origins.read(path / exchange.ORIGIN, {split: folder.rows(split) for split in folder.splits()})
    entries = []
    for split in folder.splits():
        for row, sample in enumerate(folder.samples(split)):
            clip = origin["rows"][split][row] if origin else None
            entries.append(Entry(clip, sample.name, partial(_row, folder, split, row)))
    return FeatureSet(path, folder.modality, tuple(entries), origin)


def _row(folder: ReferenceFolder, split: str, row: int) -> np.ndarray:
    return folder.features(split, row)


def matched(a: FeatureSet, b: FeatureSet) -> list[tuple[str, Entry, Entry]]:
    """Pair the rows of the same clip, each clip once, and return them with the clip's name.

    Rows are matched by clip name, else by sample name, else by row number. Raises `UnknownFeatures` if the two sets
    have no names in common and different numbers of rows.
    """
    for kind in ("clip", "sample"):
        of_a, of_b = _named(a, kind), _named(b, kind)
        common = [name for name in of_a if name in of_b]
        if common:
            return _each_clip_once([(name, of_a[name], of_b[name]) for name in common])
    if len(a.entries) == len(b.entries):
        numbered = enumerate(zip(a.entries, b.entries, strict=True))
        return _each_clip_once([(f"row {row}", one, other) for row, (one, other) in numbered])
    raise UnknownFeatures(
        f"{a.path} and {b.path} have no clip or sample name in common, and {len(a.entries)} and"
        f" {counted(len(b.entries), 'row')};"
        " compare sets of the same data"
    )


def _named(features: FeatureSet, kind: str) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in features.entries:
        name = getattr(entry, kind)
        if name is not None:
            found.setdefault(name, entry)
    return found


def _each_clip_once(pairs: list[tuple[str, Entry, Entry]]) -> list[tuple[str, Entry, Entry]]:
    seen: set[str] = set()
    kept = []
    for name, one, other in pairs:
        clip = one.clip or other.clip or name
        if clip not in seen:
            seen.add(clip)
            kept.append((clip, one, other))
    return kept
