"""The catalogue of an experiment's raw files, which are listed and hashed before the task graph is built.

A catalogue is one JSON document, `<store>/catalogue/<digest>.json`, with the records of each role (train, test) and
the raw files that the config names. Tasks have its digest as a parameter; their keys contain only their own members,
without paths, so that moving a data set changes no key and adding a video changes only the keys that depend on it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from data import datasets
from data.readers.folder import Share
from data.records import Listing, Video
from data.wording import counted
from pipeline.config import Config, ConfigError
from pipeline.sections.dataset.datasets import DatasetSection
from pipeline.store.artifact import StoreError
from pipeline.store.canonical_json import canonical, digest
from pipeline.store.file_hashes import Hashes, replace

Members = dict[str, Any]
Progress = Callable[[int, int], None]


class DamagedCatalogue(StoreError):
    """Error of a catalogue that was changed after it was written."""


def build(config: Config, store: Path, hashes: Hashes, roots: dict[str, Path], progress: Progress) -> str:
    """List and hash the raw files, write the catalogue, and return its digest. Raises the same errors as `listed`."""
    found = listed(config, hashes, roots, progress)
    name = digest(found)
    if not exists(store, name[:16]):
        replace(store / "catalogue" / f"{name[:16]}.json", canonical(found))
    hashes.save()
    return name[:16]


def listed(config: Config, hashes: Hashes, roots: dict[str, Path], progress: Progress) -> dict[str, Any]:
    """List and hash the raw files: return the records of each role, and the files that the config names.

    `roots` gives the folder of each data set by its name. Raises `ConfigError` if a file that the config names is
    missing, and the reader's own errors if a data set cannot be listed.
    """
    files = {key: _named_file(key, Path(path), hashes) for key, path in config.files.items()}
    sets: dict[str, Any] = {}
    listings = {}
    for role, chosen in config.sets.items():
        section, root = config.datasets[chosen.dataset], roots[chosen.dataset]
        if section.kind == "reference":
            sets[role] = _reference(section, root, chosen.split, hashes)
        else:
            listings[role] = listing(section, root, chosen.split)
    total = sum(len(offered.videos) for offered in listings.values())
    done = 0
    for role, offered in listings.items():
        section = config.datasets[config.sets[role].dataset]
        videos = []
        for video in offered.videos:
            videos.append(_video(video, section.kind, hashes))
            done += 1
            progress(done, total)
        sets[role] = {
            "kind": section.kind,
            "shards": section.shards,
            "absent": section.absent,
            "max_failures": section.max_failures,
            "videos": videos,
            "queries": _queries(offered, _groups(section, roots[config.sets[role].dataset])),
            "rules": {rule: list(records) for rule, records in sorted(offered.hits.items())},
        }
    return {"sets": sets, "files": files}


@cache
def read(store: Path, name: str) -> dict[str, Any]:
    """Read a catalogue by its digest and group the videos of each set by shard; the result is cached in memory.

    Raises `DamagedCatalogue` if the file does not match the digest.
    """
    path = store / "catalogue" / f"{name}.json"
    content = path.read_bytes()
    if not _is(name, content):
        raise DamagedCatalogue(f"{path} was changed after it was written; run again, which writes it anew")
    document: dict[str, Any] = json.loads(content)
    for entry in document["sets"].values():
        entry["of_shard"] = {}
        for video in entry["videos"]:
            entry["of_shard"].setdefault(_shard(video["id"], entry["shards"]), []).append(video)
    return document


def exists(store: Path, name: str) -> bool:
    """Return whether the file of a catalogue exists and matches its digest."""
    path = store / "catalogue" / f"{name}.json"
    return path.is_file() and _is(name, path.read_bytes())


def _is(name: str, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest()[:16] == name


def shards(catalogue: dict[str, Any], role: str) -> list[int]:
    """Return the numbers of a role's non-empty shards; a video belongs to shard SHA-256(id) mod n."""
    return sorted(catalogue["sets"][role]["of_shard"])


def clips(catalogue: dict[str, Any], role: str, shard: int) -> Members:
    """Return the members on which decoding one shard depends: its videos with their labelled frames.

    `last` is the last frame of a video that may be used (0: no limit), since the frames of J-HMDB beyond the last mask
    are not part of the data set.
    """
    trimmed = catalogue["sets"][role]["kind"] == "jhmdb"
    return {
        "videos": [
            {key: value for key, value in video.items() if key not in ("labels", "unions")}
            | {"labelled": [frame["number"] for frame in video["labelled"]], "last": video["frames"] * trimmed}
            for video in catalogue["sets"][role]["of_shard"][shard]
        ],
        "max_failures": catalogue["sets"][role]["max_failures"],
    }


def truths(catalogue: dict[str, Any], role: str, shard: int) -> Members:
    """Return the members on which the masks of one shard depend: its annotation files and their format."""
    kind = catalogue["sets"][role]["kind"]
    kept = ("id", "height", "width", "labelled", "labels", "unions")
    videos = [{key: video[key] for key in kept if key in video} for video in catalogue["sets"][role]["of_shard"][shard]]
    return {"kind": kind, "videos": videos}


def queries(catalogue: dict[str, Any], role: str) -> Members:
    """Return all sentences of a role, with the identity of their actors where it is known."""
    entry = catalogue["sets"][role]
    return {"queries": entry["queries"], "absent": entry["absent"], "quarantine": {"limit": entry["max_failures"]}}


def sentences(catalogue: dict[str, Any], role: str) -> Members:
    """Return the ids and texts of all sentences of a role."""
    return {"queries": [{"id": q["id"], "text": q["text"]} for q in catalogue["sets"][role]["queries"]]}


def identity(members: Any) -> Any:
    """Return members as they enter a key: without file paths and failure limits, which do not affect the content."""
    if isinstance(members, dict):
        return {key: identity(value) for key, value in members.items() if key not in ("path", "max_failures")}
    if isinstance(members, list):
        return [identity(value) for value in members]
    return members


def listing(section: DatasetSection, root: Path, split: str) -> Listing:
    """List the videos and sentences of a data set's split.

    Raises `ConfigError` if the data set has no such listing or its folder is missing, and the reader's own errors.
    """
    if section.kind == "reference":
        raise ConfigError(
            "dataset.kind = 'reference' has no videos or annotations to list; `acga import` reads all of it"
        )
    if not root.is_dir():
        raise ConfigError(f"dataset.root = {section.root!r}: no such folder; give that of the {section.kind} files")
    share = Share(section.test_share, section.split_seed)
    return datasets.read(section.kind, root, split, section.exclude, _labelled(section), share)


def _reference(section: DatasetSection, root: Path, split: str, hashes: Hashes) -> dict[str, Any]:
    """List and hash the files of a folder in the authors' layout. Raises `ConfigError` if the split file is missing."""
    if not (root / f"{split}.txt").is_file():
        raise ConfigError(
            f"dataset.root = {section.root!r}: no {split}.txt there; give a folder in the authors' layout"
        )
    files = sorted(path.resolve() for path in root.iterdir() if path.name in (f"{split}.txt",) or path.suffix == ".h5")
    found = [{"name": path.name, "path": str(path), "sha256": hashes.of(str(path))} for path in files]
    nothing: dict[str, Any] = {"videos": [], "queries": [], "rules": {}}
    return {"kind": section.kind, "shards": 1, "split": split, "files": found, **nothing}


def _labelled(section: DatasetSection) -> str | Path:
    """Return the choice of frames, or the path of the file that lists them. Raises `ConfigError` if it is missing."""
    if section.labelled == "even" or section.kind == "rvos":
        return section.labelled
    path = Path(section.labelled)
    if not path.is_file():
        raise ConfigError(f"dataset.labelled = {section.labelled!r}: no such file; give 'even' or a JSON list")
    return path


def _named_file(key: str, path: Path, hashes: Hashes) -> dict[str, str]:
    if not path.is_file() and not (key == "text.vectors" and path.is_dir()):
        raise ConfigError(f"{key} = {str(path)!r}: no such file; give the path of one")
    return {"path": str(path.resolve()), "sha256": hashes.of(str(path.resolve()))}


def _video(video: Video, kind: str, hashes: Hashes) -> dict[str, Any]:
    # abspath instead of resolve(), which would query the file system for every component of every path
    path = os.path.abspath(video.path)  # noqa: PTH100
    labelled = []
    for frame in video.labelled:
        of_frame = os.path.abspath(frame.path)  # noqa: PTH100
        labelled.append({"number": frame.number, "path": of_frame, "sha256": hashes.of(of_frame)})
    return {
        "id": video.id,
        "path": path,
        "sha256": hashes.of(path),
        "height": video.height,
        "width": video.width,
        "frames": video.frames,
        "labelled": labelled,
        **({"labels": {str(instance): label for instance, label in video.labels.items()}} if video.labels else {}),
        **(
            {"unions": {str(instance): list(parts) for instance, parts in video.unions.items()}} if video.unions else {}
        ),
    }


def _queries(listing: Listing, groups: dict[tuple[str, str], str]) -> list[dict[str, Any]]:
    records = [
        {
            "id": query.id,
            "video": query.video,
            "instance": query.instance,
            "text": query.text,
            "group": query.group or groups.get((query.video, str(query.instance)), ""),
            **({} if query.frames is None else {"frames": list(query.frames)}),
        }
        for query in listing.queries
    ]
    return sorted(records, key=lambda record: record["id"])


def _groups(section: DatasetSection, root: Path) -> dict[tuple[str, str], str]:
    if not section.groups:
        return {}
    path = root / section.groups
    if not path.is_file():
        raise ConfigError(f"dataset.groups = {section.groups!r}: no such file under {root}; '' where there is none")
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:] if line]
    for number, row in enumerate(rows, start=2):
        if len(row) != 3:
            raise ConfigError(f"{path}:{number}: {counted(len(row), 'column')}; expected video_id,instance_id,group")
    return {(video, instance): group for video, instance, group in rows}


def _shard(video: str, count: int) -> int:
    return int(hashlib.sha256(video.encode()).hexdigest(), 16) % count
