"""Published counts of A2D-Sentences and JHMDB-Sentences, and the comparison of one's own files with them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from data.datasets import UnknownKind
from data.defects import Hits
from data.readers import a2d, jhmdb
from data.records import Listing


@dataclass(frozen=True)
class Counts:
    """Counts of one dataset; None stands for a number that was not counted.

    `videos` counts the videos of videoset.csv or puppet_mask; `sentences` counts the rows of the annotation file,
    including those that are dropped later. `train_videos` and `test_videos` count videos with sentences. A sample is a
    pair of a sentence and a labelled frame that shows its instance."""

    videos: int | None = None
    sentences: int | None = None
    train_videos: int | None = None
    test_videos: int | None = None
    train_samples: int | None = None
    test_samples: int | None = None


COUNTS = {
    # counted in videoset.csv and a2d_annotation.txt; the samples are those of MTTR's rules. LoSh's published
    # lists have 15,362 for training and 3,686 for testing, and its ground truth of the test set has the same 3,800
    "a2d": Counts(3782, 6655, 3017, 737, 15747, 3800),
    # counted in jhmdb_annotation.txt; three labelled frames per video
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
    """Count a dataset: the text files at `root`, and for each split given its listing and its number of samples.

    The splits are "train" and "test". `samples` must not contain a split whose number is unknown or includes empty
    masks of absent instances, which the published numbers exclude. Raises UnknownKind and the errors of the readers."""
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
    """Return one message for each count that differs from the published one: both numbers and what to do.

    The result is empty if no count differs. Raises UnknownKind."""
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
