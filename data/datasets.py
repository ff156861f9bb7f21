"""The data sets by kind: the one place that knows which reader reads what."""

from collections.abc import Mapping
from pathlib import Path

from data import a2d, jhmdb
from data.records import Instances, Listing

KINDS = ("a2d", "jhmdb")


def read(kind: str, root: Path, split: str, exclude: Mapping[str, str], labelled: str | Path = "even") -> Listing:
    """The videos and sentences of one split of a data set laid out as distributed; see `data.a2d` and `data.jhmdb`.

    `labelled` says which frames of J-HMDB are labelled, "even" or the path of a list; A2D's files say it themselves.
    Raises UnknownKind, and what the readers raise."""
    if kind == "a2d":
        return a2d.read(root, split, exclude)
    if kind == "jhmdb":
        return jhmdb.read(root, split, exclude, labelled)
    raise UnknownKind(f"data set kind {kind!r}: expected one of {', '.join(KINDS)}.")


def read_instances(kind: str, path: Path, number: int, height: int, width: int) -> Instances:
    """The instances of labelled frame `number` (from 1) in its annotation file.

    Raises UnknownKind, and what the readers raise."""
    if kind == "a2d":
        return a2d.read_instances(path, height, width)
    if kind == "jhmdb":
        return jhmdb.read_instances(path, number, height, width)
    raise UnknownKind(f"data set kind {kind!r}: expected one of {', '.join(KINDS)}.")


class UnknownKind(ValueError):
    """A kind of data set that has no reader."""
