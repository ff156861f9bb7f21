"""Check A: the raw files, hashed again without a cache, match the catalogue with which the report was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.audit.subject import Subject, raw
from pipeline.audit.verdicts import Check, check
from pipeline.engine import catalogue
from pipeline.sections.dataset.datasets import GENERATED
from pipeline.store.file_hashes import Hashes

MOST_NAMED = 5

Catalogue = Mapping[str, Any]


def inputs(subject: Subject, progress: Callable[[int, int], None]) -> Check:
    """Check every video, annotation, sentence and weight file; report the counts, and the exclusions with reasons."""
    then = raw(subject)
    if then is None and (subject.store / "catalogue" / f"{subject.catalogue}.json").exists():
        return check("A", [f"catalogue {subject.catalogue} was changed after it was written"])
    if then is None:
        return check("A", unknown=[f"catalogue {subject.catalogue} is gone or damaged: what was read is not known"])
    roots = folders(subject, then)
    gone = [
        f"{name}: {root} is not here; its files were not checked" for name, root in roots.items() if not root.is_dir()
    ]
    if gone:
        return check("A", unknown=gone, facts=counts(then))
    try:
        now = catalogue.listed(subject.config, Hashes(Path(), {}), roots, progress)
    except Exception as error:  # any error that the readers raise for the files
        return check("A", [f"the raw files cannot be listed as they are: {' '.join(str(error).split())}"])
    wrong = [*_of_files(then["files"], now["files"])]
    for role, entry in then["sets"].items():
        wrong += [f"{role}: {text}" for text in _of_set(entry, now["sets"].get(role, {}))]
    excluded = {name: dict(section.exclude) for name, section in subject.config.datasets.items() if section.exclude}
    return check("A", wrong, facts=counts(then) | {"excluded": excluded})


def folders(subject: Subject, then: Catalogue) -> dict[str, Path]:
    """Return the folder of each data set like `run.folders`, but do not generate a damaged miniature again."""
    used = {role.dataset for role in subject.config.sets.values()}
    found = {}
    for name, section in subject.config.datasets.items():
        if name not in used:
            continue
        found[name] = Path(section.root)
        if section.root == GENERATED:
            videos = [Path(video["path"]) for entry in then["sets"].values() for video in entry["videos"]]
            found[name] = subject.store / "miniature" / _drawing(videos[0])
    return found


def _drawing(path: Path) -> str:
    """Return the name of the miniature that a file belongs to: <store>/miniature/<name>/..."""
    parts = path.parts
    return parts[len(parts) - parts[::-1].index("miniature")]


def counts(then: Catalogue) -> dict[str, Any]:
    """Count the videos, labelled frames, sentences and rules of each role, and list the SHA-256 of the named files."""
    return {
        "counts": {
            role: {
                "videos": len(entry["videos"]),
                "labelled frames": sum(len(video["labelled"]) for video in entry["videos"]),
                "sentences": len(entry["queries"]),
                "rules": {rule: len(records) for rule, records in entry["rules"].items()},
            }
            for role, entry in then["sets"].items()
        },
        "files": {key: file["sha256"] for key, file in then["files"].items()},
    }


def _of_files(then: Catalogue, now: Catalogue) -> Iterator[str]:
    for key, file in then.items():
        if now.get(key, {}).get("sha256") != file["sha256"]:
            yield f"{key}: another file than was read ({file['sha256'][:16]} then)"


def _of_set(then: Catalogue, now: Catalogue) -> Iterator[str]:
    for kind, noun in (("videos", "video"), ("queries", "sentence"), ("files", "file")):
        key = "name" if kind == "files" else "id"
        old, new = (
            {record[key]: catalogue.identity(record) for record in entry.get(kind, [])} for entry in (then, now)
        )
        changed = [f"{noun} {name} is another" for name in old if name in new and old[name] != new[name]]
        changed += [f"{noun} {name} is gone" for name in old if name not in new]
        changed += [f"{noun} {name} was added" for name in new if name not in old]
        yield from changed[:MOST_NAMED]
        if len(changed) > MOST_NAMED:
            yield f"and {len(changed) - MOST_NAMED} more {noun}s"
