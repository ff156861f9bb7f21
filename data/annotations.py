"""What the readers of A2D and J-HMDB have in common: text files in, rows and cleaned sentences out; their errors."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.defects import Hits
from data.records import Query

_INTEGER = re.compile(r"[0-9]+")
_COPY = re.compile(r"[0-9]+ \(copy\)")


@dataclass(frozen=True)
class Row:
    """One line of a text file, cut at its commas; `line` counts from 1."""

    line: int
    cells: tuple[str, ...]


def clean(query: str) -> str:
    """The sentence in lower case, its words parted by single blanks."""
    return " ".join(query.lower().split())


def find(folders: Sequence[Path], name: str, what: str) -> Path:
    """The first of the folders' entries of that name. Raises MissingFile where none has it."""
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    places = " or ".join(str(folder / name) for folder in folders)
    raise MissingFile(f"{what}: no {name}; expected at {places}. Put it there, or correct [dataset].root.")


def read_rows(path: Path) -> tuple[Row, ...]:
    """The rows of a comma-separated text file that are not blank. A byte order mark and CR LF are tolerated.

    Raises MissingFile, MalformedAnnotations (not UTF-8)."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise MissingFile(f"no file {path}. Put it there, or correct [dataset].root.") from None
    except UnicodeDecodeError as error:
        raise MalformedAnnotations(f"{path}: not UTF-8 text ({error}). Fetch it again.") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return tuple(
        Row(number, tuple(next(csv.reader([line])))) for number, line in enumerate(lines, 1) if line.strip(" \t")
    )


def read_sentences(path: Path, columns: Sequence[str], hits: Hits) -> tuple[Query, ...]:
    """The sentences of an official annotation file in its order, cleaned.

    The columns are `video_id, instance_id, query`, or `video_id, query` where a video has one instance, 0. Commas in a
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
        raise EmptyAnnotations(f"{path}: no sentence in {len(rows)} lines; expected one a line. Fetch it again.")
    return _numbered(queries)


def _query(path: Path, row: Row, columns: Sequence[str], hits: Hits) -> Query | None:
    if len(row.cells) < len(columns):
        raise MalformedAnnotations(
            f"{path}, line {row.line}: {len(row.cells)} columns; expected {','.join(columns)}. Correct the line."
        )
    video, instance = row.cells[0], row.cells[1] if len(columns) == 3 else "0"
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


def _numbered(queries: Sequence[Query]) -> tuple[Query, ...]:
    several = Counter((query.video, query.instance) for query in queries)
    seen: Counter[tuple[str, int]] = Counter()
    numbered = []
    for query in queries:
        instance = (query.video, query.instance)
        numbered.append(replace(query, ordinal=seen[instance]) if several[instance] > 1 else query)
        seen[instance] += 1
    return tuple(numbered)


class MissingFile(FileNotFoundError):
    """A file of the data set is not where it should be."""


class EmptyAnnotations(ValueError):
    """An annotation file, or what is left of it, holds no sentence."""


class MalformedAnnotations(ValueError):
    """An annotation file is not of the documented form."""


class UnknownSplit(ValueError):
    """A split that the data set does not have."""


class UnknownExclusion(ValueError):
    """The configuration excludes a video that is not there."""


class MaskSizeMismatch(ValueError):
    """Masks of another size than their video."""
