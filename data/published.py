"""What the papers and their code count in A2D-Sentences and JHMDB-Sentences, to hold one's own files against."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from data import a2d, jhmdb
from data.datasets import UnknownKind
from data.defects import Hits
from data.records import Listing


@dataclass(frozen=True)
class Counts:
    """Counts of one data set; None where nothing was counted.

    `videos` are those of videoset.csv, or of puppet_mask; `sentences` the rows of the annotation file, those that are
    then dropped included. A split's videos are those with sentences, its samples pairs of a sentence and a labelled
    frame that shows its instance."""

    videos: int | None = None
    sentences: int | None = None
    train_videos: int | None = None
    test_videos: int | None = None
    train_samples: int | None = None
    test_samples: int | None = None


COUNTS = {
    # videoset.csv and a2d_annotation.txt themselves; MTTR's samples, which LoSh's lists have too
    "a2d": Counts(3782, 6655, 3017, 737, 15747, 3800),
    # jhmdb_annotation.txt; three labelled frames a video
    "jhmdb": Counts(videos=928, sentences=928, test_videos=928, test_samples=2784),
}

_WHAT = {
    "a2d": {
        "videos": "videos in videoset.csv",
        "sentences": "sentences in a2d_annotation.txt",
        "train_videos": "train videos with sentences",
        "test_videos": "test videos with sentences",
        "train_samples": "train samples",
        "test_samples": "test samples",
    },
    "jhmdb": {
        "videos": "videos in puppet_mask",
        "sentences": "sentences in jhmdb_annotation.txt",
        "test_videos": "videos with sentences",
        "test_samples": "samples",
    },
}
_NAMES = {"a2d": "A2D-Sentences", "jhmdb": "JHMDB-Sentences"}


def count(kind: str, root: Path, listings: Mapping[str, Listing], samples: Mapping[str, int]) -> Counts:
    """What is there: the text files at `root`, the listing and the number of samples of each split that is looked at.

    Splits are "train" and "test"; leave samples out that are not known, or that have empty masks for absent instances:
    the published ones have not. Raises UnknownKind, and what the readers raise."""
    hits = Hits()
    if kind == "a2d":
        declared, queries = a2d.read_text(root, hits)
        videos = len(declared)
    elif kind == "jhmdb":
        folders, queries = jhmdb.read_text(root, hits)
        videos = len(folders)
    else:
        raise UnknownKind(f"data set kind {kind!r}: expected one of {', '.join(COUNTS)}.")
    dropped = sum(len(hits.collected().get(rule, ())) for rule in ("copied_row", "empty_query"))
    return Counts(
        videos=videos,
        sentences=len(queries) + dropped,
        train_videos=len(listings["train"].videos) if "train" in listings else None,
        test_videos=len(listings["test"].videos) if "test" in listings else None,
        train_samples=samples.get("train"),
        test_samples=samples.get("test"),
    )


def check(kind: str, found: Counts) -> tuple[str, ...]:
    """For each count that is not as published, which it is, what was found and expected, and what to do.

    Empty where all that were counted are. Raises UnknownKind."""
    if kind not in COUNTS:
        raise UnknownKind(f"data set kind {kind!r}: expected one of {', '.join(COUNTS)}.")
    messages = []
    for name in (field.name for field in fields(Counts)):
        here, there = getattr(found, name), getattr(COUNTS[kind], name)
        if here is not None and there is not None and here != there:
            messages.append(
                f"{_NAMES[kind]}: {here} {_WHAT[kind][name]}; published {there}. Fetch the data set's files again, "
                'exclude and quarantine no video, or set [dataset].expect = "none".'
            )
    return tuple(messages)
