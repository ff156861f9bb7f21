"""Sets of visual features, wherever they lie: what `acga diff` compares.

A set is an artifact of VisualFeatures or Imported, a folder in the authors' layout, or a config: the features that it
would give its raw videos.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import catalogue, exchange, locks
from pipeline.artifact import Artifact, StoreError

if TYPE_CHECKING:
    import numpy as np

    from extractors.reference_reader import ReferenceFolder
    from extractors.shards import ShardReader

Read = Callable[[], "np.ndarray"]


class UnknownFeatures(ValueError):
    """A path that holds no features: what is there, what can be compared."""


@dataclass(frozen=True)
class Entry:
    """One row: float32 features, the names of clip ("<video>/<labelled frame>") and sample where they are known."""

    clip: str | None
    sample: str | None
    read: Read


@dataclass(frozen=True)
class FeatureSet:
    """Features, and what is known of how they were made: see `exchange.origin`, with the pretrained trunk's folder."""

    path: Path
    stream: str
    entries: tuple[Entry, ...]
    origin: dict[str, Any] | None = field(default=None)


def find(path: Path) -> FeatureSet:
    """The features at a path. Raises `UnknownFeatures`, and what their readers raise."""
    if (path / "manifest.json").is_file():
        return _artifact(path)
    if path.is_dir() and list(path.glob("video_*_iccv.h5")):
        return _folder(path)
    raise UnknownFeatures(
        f"{path}: no features there; expected <store>/VisualFeatures/<key>, <store>/Imported/<key>, a folder in the"
        " layout of the authors' code, or a config (.toml) for its raw videos"
    )


def _artifact(path: Path) -> FeatureSet:
    from extractors.shards import ShardReader  # here, since it loads h5py

    manifest = json.loads((path / "manifest.json").read_bytes())
    if manifest["stage"] not in ("VisualFeatures", "Imported"):
        raise UnknownFeatures(f"{path}: an artifact of {manifest['stage']}, which has no features")
    files = path / manifest["attempt"]
    locks.keep(path / "lock")
    reader, experiment = ShardReader(files / "visual.h5"), manifest["experiment"]
    rows = {clip: row for row, clip in enumerate(reader.ids)}
    if manifest["stage"] == "Imported":
        samples = json.loads((files / "samples.json").read_bytes())["samples"]
        named = ((None, sample["id"].rpartition("@")[0], rows[sample["clip"]]) for sample in samples)
        entries = tuple(Entry(clip, sample, partial(_restored, reader, row)) for clip, sample, row in named)
        return FeatureSet(path, experiment["sections"]["visual"]["modality"], entries)
    store = path.parent.parent
    stream = manifest["label"].rpartition(" ")[2]
    entries = tuple(Entry(clip, None, partial(_restored, reader, row)) for clip, row in rows.items())
    return FeatureSet(path, stream, entries, _origin(store, manifest))


def _origin(store: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    experiment = manifest["experiment"]
    raw = catalogue.read(store, experiment["catalogue"])
    trunks = [Artifact(store, stage, key) for stage, _, key in manifest["from"] if stage == "PretrainedTrunk"]
    found = exchange.described(experiment["sections"], raw)
    return found | {"trunk": str(trunks[0].files().resolve()) if trunks else None}


def _restored(reader: ShardReader, row: int) -> np.ndarray:
    from extractors.halves import restored

    return restored(reader.read("features", row), float(reader.read("scale", row)))


def _folder(path: Path) -> FeatureSet:
    from extractors.reference_reader import ReferenceFolder

    folder = ReferenceFolder(path)
    try:
        origin = json.loads((path / exchange.ORIGIN).read_bytes())
    except FileNotFoundError:
        origin = None
    except ValueError as error:
        raise StoreError(f"{path / exchange.ORIGIN} is damaged ({error}); export again, or delete it") from error
    entries = []
    for split in folder.splits():
        clips = origin["rows"].get(split) if origin else None
        for row, sample in enumerate(folder.samples(split)):
            clip = clips[row] if clips and len(clips) == folder.rows(split) else None
            entries.append(Entry(clip, sample.name, partial(_row, folder, split, row)))
    return FeatureSet(path, folder.modality, tuple(entries), origin)


def _row(folder: ReferenceFolder, split: str, row: int) -> np.ndarray:
    return folder.features(split, row)


def matched(a: FeatureSet, b: FeatureSet) -> list[tuple[str, Entry, Entry]]:
    """Pairs of rows of the same clip, each clip once, with its name: by clip, else by sample, else by place.

    Raises `UnknownFeatures` where the two have nothing in common.
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
        f"{a.path} and {b.path} have no clip or sample name in common, and {len(a.entries)} and {len(b.entries)} rows;"
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
