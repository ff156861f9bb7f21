"""Reader of sentences.csv, the table of a data set of one's own, and the collector of what is wrong with it."""

from __future__ import annotations

import csv
import difflib
import io
import re
from dataclasses import dataclass
from pathlib import Path

from data.readers.annotations import MissingFile, clean
from data.records import ACTIONS, ACTORS, LABELS
from data.wording import counted

REQUIRED = ("video", "instance", "sentence")
OPTIONAL = ("split", "frames", "actor", "action", "group")
LARGEST_INSTANCE = 65_535  # of a PNG file of 16 bits
SHOWN = 50  # problems
_INSTANCE = re.compile(r"[1-9][0-9]{0,4}")
_FRAMES = re.compile(r"([1-9][0-9]{0,8})(?:-([1-9][0-9]{0,8}))?")
_LONGEST_RANGE = 100_000  # frames


class BadFolder(ValueError):
    """Raised if the files of a data set do not fit together; `findings` has one line for each problem."""

    def __init__(self, findings: tuple[str, ...]) -> None:
        super().__init__("; ".join(findings))
        self.findings = findings


class Problems:
    """Collector of what is wrong with a data set."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: list[str] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, where: str, found: str, remedy: str) -> None:
        """Add what was found at a place below the root, and what to do about it."""
        self._found.append(f"{self._root / where}: {found}" + (f"; {remedy}" if remedy else ""))

    def raise_if_any(self) -> None:
        """Raise BadFolder with the first problems and the number of the others."""
        if self._found:
            more = len(self._found) - SHOWN
            rest = (f"{self._root}: and {counted(more, 'problem')} more",) if more > 0 else ()
            raise BadFolder((*self._found[:SHOWN], *rest))


@dataclass(frozen=True)
class Spoken:
    """A row of the table: a sentence about an instance of a video.

    `frames` are the labelled frames that it is about, None for all; `label` is 10 * actor + action as in A2D, 0 if
    unknown; `split` is "" if the table has no such column."""

    line: int
    video: str
    instance: int
    text: str
    split: str
    frames: tuple[int, ...] | None
    label: int
    group: str


def read_table(path: Path, problems: Problems) -> list[Spoken]:
    """Return the rows that can be read; the others are problems. Raises MissingFile, BadFolder if there is no table."""
    rows = _rows(path, problems)
    columns = _columns(path, rows, problems)
    problems.raise_if_any()
    table: list[Spoken] = []
    split_of: dict[str, tuple[str, int]] = {}
    lines: dict[tuple[str, int, str], int] = {}
    for line, cells in rows[1:]:
        row = _row(path.name, line, dict(zip(columns, cells, strict=False)), len(cells) - len(columns), problems)
        if row is None:
            continue
        where = f"{path.name}, line {line}"
        first, at = split_of.setdefault(row.video, (row.split, line))
        if first != row.split:
            problems.add(where, f"{row.video} is in split {row.split!r}, but in {first!r} on line {at}", "choose one")
        key = (row.video, row.instance, row.text)
        if key in lines:
            problems.add(where, f"the same sentence as on line {lines[key]}", "remove one of the lines")
            continue
        lines[key] = line
        table.append(row)
    if not table and not len(problems):
        problems.add(path.name, "no sentence", "add one a line")
    if not table:
        problems.raise_if_any()
    return table


def _rows(path: Path, problems: Problems) -> list[tuple[int, list[str]]]:
    """Return the rows that are not blank, with the number of their last line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingFile(f"no file {path} ({error.strerror}). Put it there, or correct [dataset].root.") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problems.add(f"{path.name}, line {line}", f"byte {content[error.start]:#04x} is no UTF-8", "save it as UTF-8")
        problems.raise_if_any()
        return []
    reader = csv.reader(io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n")), strict=True)
    rows = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        problems.add(f"{path.name}, line {reader.line_num}", f"no row of a CSV file ({error})", "correct its quotes")
    return rows


def _columns(path: Path, rows: list[tuple[int, list[str]]], problems: Problems) -> list[str]:
    known = (*REQUIRED, *OPTIONAL)
    columns = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if not rows:
        problems.add(path.name, "the file is empty", f"begin it with a line {','.join(REQUIRED)}")
    for name in (name for name in REQUIRED if rows and name not in columns):
        problems.add(f"{path.name}, line {rows[0][0]}", f"no column {name}", f"name the columns {','.join(REQUIRED)}")
    for name in dict.fromkeys(columns):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"remove it; known are {', '.join(known)}"
            problems.add(f"{path.name}, line 1", f"an unknown column {name!r}", hint)
        elif columns.count(name) > 1:
            problems.add(f"{path.name}, line 1", f"two columns {name}", "remove one")
    return columns


def _row(name: str, line: int, cells: dict[str, str], surplus: int, problems: Problems) -> Spoken | None:
    """Return one row, or None if something is wrong with it."""
    where, before = f"{name}, line {line}", len(problems)
    if surplus:
        more = "more" if surplus > 0 else "fewer"
        problems.add(where, f"{more} cells than columns", "put a sentence with commas in double quotes")
        return None
    video, instance, text = (cells[key].strip() for key in REQUIRED)
    if video in ("", ".", "..") or "/" in video or "\\" in video or "\0" in video:
        problems.add(where, f"the video {video!r} can name no file", "correct it")
    if not _INSTANCE.fullmatch(instance) or int(instance) > LARGEST_INSTANCE:
        problems.add(where, f"instance {instance!r}", f"give a whole number from 1 to {LARGEST_INSTANCE}")
    if not any(letter.isalnum() for letter in text):
        problems.add(where, f"the sentence {text!r} has no word", "write one, or remove the line")
    split = cells.get("split", "").strip().lower()
    if "split" in cells and split not in ("train", "test"):
        problems.add(where, f"split {split!r}", "give train or test")
    frames, label = _frames(where, cells.get("frames", ""), problems), _label(where, cells, problems)
    if len(problems) > before:
        return None
    return Spoken(line, video, int(instance), clean(text), split, frames, label, cells.get("group", "").strip())


def _frames(where: str, text: str, problems: Problems) -> tuple[int, ...] | None:
    """Return the frames of a cell such as "3;10-14", None if it is empty."""
    if not text.strip():
        return None
    found: set[int] = set()
    for part in text.split(";"):
        match = _FRAMES.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 <= last - first < _LONGEST_RANGE:
            problems.add(where, f"frames {text!r}", "give frame numbers from 1, such as 3;10-14")
            return None
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def _label(where: str, cells: dict[str, str], problems: Problems) -> int:
    """Return 10 * actor + action of A2D's actors and actions, 0 if the cells are empty."""
    actor, action = (cells.get(key, "").strip().lower() for key in ("actor", "action"))
    if not actor and not action:
        return 0
    if actor not in ACTORS:
        problems.add(where, f"actor {actor!r}", f"give one of {', '.join(ACTORS)}, or neither actor nor action")
        return 0
    if (action or "none") not in ACTIONS:
        problems.add(where, f"action {action!r}", f"give one of {', '.join(ACTIONS)}, or none")
        return 0
    label = 10 * (ACTORS.index(actor) + 1) + ACTIONS.index(action or "none") + 1
    if label not in LABELS:
        problems.add(where, f"{actor} {action}", "A2D has no such label; leave both cells empty")
        return 0
    return label
