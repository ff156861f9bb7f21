"""The four text files of Ref-DAVIS17: two annotators, each on the first frame and on the full video."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from data.readers.annotations import MissingFile, clean
from data.readers.rvos.expressions import LARGEST_OBJECT, Clip, Expression
from data.readers.sentence_table import Problems

FOLDER = "davis_text_annotations"
FILES = (
    *("Davis17_annot1.txt", "Davis17_annot1_full_video.txt"),
    *("Davis17_annot2.txt", "Davis17_annot2_full_video.txt"),
)
_LATIN = FILES[2:]  # the second annotator's
_LINE = re.compile(r'(\S+)\s+(\S+)\s+"?(.*?)"?\s*')
_OBJECT = re.compile(r"[1-9][0-9]{0,2}")


def read(root: Path, videos: list[str], known: set[str], problems: Problems) -> list[Clip]:
    """Return the given videos with their expressions; lines that cannot be read are problems.

    The expression of file f (from 0) about object n has the number 4 (n - 1) + f, as in the conversions to the layout
    of Ref-YouTube-VOS. `known` are the videos of all splits. Raises MissingFile."""
    spoken: dict[str, dict[int, Expression]] = {video: {} for video in videos}
    for place, name in enumerate(FILES):
        lines: dict[tuple[str, int], int] = {}
        for line, video, number, text in _lines(root / FOLDER / name, problems):
            where = f"{FOLDER}/{name}, line {line}"
            if video not in known:
                problems.add(where, f"video {video!r} is in no list of ImageSets/2017", "correct the name")
            elif (video, number) in lines:
                problems.add(where, f"object {number} of {video} is on line {lines[video, number]}, too", "remove one")
            elif video in spoken:
                expression = 4 * (number - 1) + place
                spoken[video][expression] = Expression(expression, text, (number, ()), line)
            lines.setdefault((video, number), line)
    return [Clip(video, None, tuple(found[key] for key in sorted(found))) for video, found in spoken.items()]


def _lines(path: Path, problems: Problems) -> Iterator[tuple[int, str, int, str]]:
    """Yield line, video, object and sentence."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingFile(f"no file {path} ({error.strerror}). Put it there, or correct [dataset].root.") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if path.name not in _LATIN:
            line = content[: error.start].count(b"\n") + 1
            found = f"byte {content[error.start]:#04x} is no UTF-8"
            problems.add(f"{FOLDER}/{path.name}, line {line}", found, "fetch the file again")
            return
        text = content.decode("latin-1")
    for line, written in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        if not written.strip():
            continue
        where, match = f"{FOLDER}/{path.name}, line {line}", _LINE.fullmatch(written.strip())
        if match is None or not _OBJECT.fullmatch(match[2]) or int(match[2]) > LARGEST_OBJECT:
            problems.add(where, repr(written.strip()[:60]), 'expected: video object "expression"')
        elif not any(letter.isalnum() for letter in match[3]):
            problems.add(where, f"the expression {match[3]!r} has no word", "write one, or remove the line")
        else:
            yield line, match[1], int(match[2]), clean(match[3])
