"""Functions and errors shared by the readers of A2D and J-HMDB: text files, sentences and binary masks."""

import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from data.defects import Hits
from data.records import Query
from data.wording import counted

_INTEGER = re.compile(r"[0-9]{1,9}")
_COPY = re.compile(r"[0-9]+ \(copy\)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # control characters except tab and line feed


@dataclass(frozen=True)
class Row:
    """One line of a text file, split at its commas; `line` counts from 1."""

    line: int
    cells: tuple[str, ...]


def clean(query: str) -> str:
    """Return the sentence in lower case, with single spaces between its words and none at its ends."""
    return " ".join(query.lower().split())


def find(folders: Sequence[Path], name: str, what: str) -> Path:
    """Return the path of `name` in the first of the folders that contains it.

    `what` names the dataset in messages. Raises MissingFile if no folder contains it."""
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    places = " or ".join(str(folder / name) for folder in folders)
    raise MissingFile(f"{what}: no {name}; expected at {places}. Put it there, or correct [dataset].root.")


def names(folder: Path) -> list[str]:
    """Return the sorted names of a folder's entries; an empty list if there is no such folder.

    Raises MissingFile if the folder cannot be listed."""
    try:
        return sorted(entry.name for entry in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise MissingFile(f"{folder} cannot be listed ({error.strerror}). Correct its permissions.") from None


def read_rows(path: Path) -> tuple[Row, ...]:
    """Return the rows of a comma-separated text file, without blank lines. A byte order mark and CR LF are accepted.

    Raises MissingFile; MalformedAnnotations if the text is not UTF-8, has control characters or an unclosed quote."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise MissingFile(f"no file {path} ({error.strerror}). Put it there, or correct [dataset].root.") from None
    except UnicodeDecodeError as error:
        raise MalformedAnnotations(f"{path}: not UTF-8 text ({error}). Fetch it again.") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return tuple(_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip(" \t"))


def integer(text: str) -> int:
    """Return the integer written in `text` with one to nine digits. Raises ValueError for any other text."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{text!r} is no number")
    return int(text)


def video_id(where: str, text: str) -> str:
    """Return `text` if it can be a file name. Raises MalformedAnnotations otherwise, with `where` in the message."""
    if text != text.strip() or "/" in text or text in ("", ".", ".."):
        raise MalformedAnnotations(f"{where}: the video id {text!r} can name no file. Correct or remove the line.")
    return text


def binary_masks(name: str, stored: Shaped[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "n h w"]:
    """Return the masks as uint8 values 0 and 1.

    Raises MalformedAnnotations if the masks hold any other value; its message begins with `name`."""
    if stored.dtype.kind not in "buif":
        raise MalformedAnnotations(f"{name}: masks of type {stored.dtype}; expected 0 and 1. Fetch the file again.")
    ones = stored == 1
    if not np.array_equal(ones, stored):  # NaN fails this comparison, too
        odd = stored[ones != stored].flat[0]
        raise MalformedAnnotations(f"{name}: a mask holds {odd}; expected 0 and 1. Fetch the file again.")
    return np.ascontiguousarray(ones, dtype=np.uint8)


def mask_hits(masks: UInt8[np.ndarray, "n h w"]) -> tuple[str, ...]:
    """Return the rules of `data.defects` that the masks of one frame match."""
    empty = not masks.any(axis=(1, 2)).all()
    overlapping = bool((masks.sum(0, dtype=np.int64) > 1).any())
    return ("empty_mask",) * empty + ("overlapping_masks",) * overlapping


def read_sentences(path: Path, columns: Sequence[str], hits: Hits) -> tuple[Query, ...]:
    """Return the cleaned sentences of an official annotation file, in file order.

    The columns are `video_id, instance_id, query`, or `video_id, query` if each video has one instance, 0. Commas in a
    query are kept. Raises MissingFile, EmptyAnnotations, MalformedAnnotations."""
    rows = read_rows(path)
    if not rows:
        raise EmptyAnnotations(f"{path}: the file is empty; expected {','.join(columns)} and one sentence a line.")
    found = tuple(cell.strip() for cell in rows[0].cells)
    if found != tuple(columns):
        raise MalformedAnnotations(
            f"{path}: the first line is {','.join(found)}; expected {','.join(columns)}. Take the authors' own file."
        )
    queries = [query for row in rows[1:] if (query := _query(path, row, columns, hits)) is not None]
    if not queries:
        raise EmptyAnnotations(
            f"{path}: no sentence in {counted(len(rows), 'line')}; expected one a line. Fetch it again."
        )
    return numbered(queries)


def _row(path: Path, number: int, line: str) -> Row:
    if (odd := _CONTROL.search(line)) is not None:
        raise MalformedAnnotations(
            f"{path}, line {number}: the control character {odd[0]!r} at column {odd.start() + 1}; expected plain "
            "UTF-8 text. Fetch it again, or correct the line."
        )
    if '"' not in line and len(line) < csv.field_size_limit():  # the fast path, which nearly all lines take
        return Row(number, tuple(line.split(",")))
    try:
        return Row(number, tuple(next(csv.reader([line], strict=True))))
    except csv.Error as error:
        raise MalformedAnnotations(
            f"{path}, line {number}: no row of comma-separated cells ({error}). Correct its quotes."
        ) from None


def _query(path: Path, row: Row, columns: Sequence[str], hits: Hits) -> Query | None:
    if len(row.cells) < len(columns):
        raise MalformedAnnotations(
            f"{path}, line {row.line}: {counted(len(row.cells), 'column')}; expected"
            f" {','.join(columns)}. Correct the line."
        )
    video = video_id(f"{path}, line {row.line}", row.cells[0])
    instance = row.cells[1] if len(columns) == 3 else "0"
    raw = ",".join(row.cells[len(columns) - 1 :])
    text, record = clean(raw), f"line {row.line}: {video}/{instance}"
    if _COPY.fullmatch(instance):
        hits.add("copied_row", record)
        return None
    if not _INTEGER.fullmatch(instance):
        raise MalformedAnnotations(f"{path}, {record}: the instance id is no number. Correct or remove the line.")
    if not text:
        hits.add("empty_query", record)
        return None
    if text != raw:
        hits.add("query_cleaned", record)
    return Query(video, int(instance), text, row.line, None)


def numbered(queries: Sequence[Query]) -> tuple[Query, ...]:
    """Return the sentences with their position among those of their instance, where it has several."""
    several = Counter((query.video, query.instance) for query in queries)
    seen: Counter[tuple[str, int]] = Counter()
    found = []
    for query in queries:
        instance = (query.video, query.instance)
        found.append(replace(query, ordinal=seen[instance]) if several[instance] > 1 else query)
        seen[instance] += 1
    return tuple(found)


class MissingFile(FileNotFoundError):
    """Raised if a file of the dataset is missing or cannot be read."""


class EmptyAnnotations(ValueError):
    """Raised if an annotation file holds no video or sentence, or if none is left after filtering."""


class MalformedAnnotations(ValueError):
    """Raised if an annotation file does not have the documented format."""


class MalformedLabelledList(MalformedAnnotations):
    """Raised if a list of labelled frames does not have MTTR's format or does not fit the dataset."""


class UnknownSplit(ValueError):
    """Raised if the dataset does not have the requested split."""


class UnknownExclusion(ValueError):
    """Raised if the configuration excludes a video that the dataset does not have."""


class MaskSizeMismatch(ValueError):
    """Raised if masks do not have the size of their video."""
