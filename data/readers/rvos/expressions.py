"""The file meta_expressions.json of Ref-YouTube-VOS and MeViS: the frames and expressions of each video."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import strict_json
from data.readers.annotations import MalformedAnnotations, MissingFile, clean
from data.readers.sentence_table import Problems
from data.wording import shown

LARGEST_OBJECT = 255  # of a PNG file of 8 bits
_NUMBER = re.compile(r"0|[1-9][0-9]{0,5}")
_FRAMES = 'give the names of its pictures, such as ["00000", "00005"]'

Target = tuple[int, tuple[str, ...]]
"""The number of an object in the masks and no annotations; or 0 and the annotations whose union is meant."""


class NoMasks(ValueError):
    """Raised if a split has no masks, so that nothing can be trained or scored on it."""


@dataclass(frozen=True)
class Expression:
    """A cleaned sentence with its number among those of its video, and what it means; `row` is its line, 0 in JSON."""

    number: int
    text: str
    target: Target
    row: int = 0


@dataclass(frozen=True)
class Clip:
    """A video with the names of its listed frames (None: all of its pictures) and its expressions."""

    id: str
    frames: tuple[str, ...] | None
    expressions: tuple[Expression, ...]


def read(root: Path, file: Path, unions: bool, problems: Problems) -> list[Clip]:
    """Return the videos of meta_expressions.json, in its order; entries that cannot be read are problems.

    `unions` says whether an expression means a union of annotations (MeViS) or one object. Raises MissingFile,
    MalformedAnnotations, NoMasks."""
    videos = _videos(file)
    spoken = [
        expression
        for video in videos.values()
        if isinstance(video, dict) and isinstance(video.get("expressions"), dict)
        for expression in video["expressions"].values()
    ]
    key = "anno_id" if unions else "obj_id"
    if spoken and not any(isinstance(each, dict) and key in each for each in spoken):
        raise NoMasks(
            f"{file}: no expression has {key}, so that this split has no masks to train or score on. Such splits cannot"
            " be used yet; take one with masks."
        )
    where = str(file.relative_to(root))
    return [_clip(where, video, found, unions, problems) for video, found in videos.items()]


def _videos(file: Path) -> dict[str, Any]:
    try:
        document = strict_json.read(file)
    except OSError as error:
        raise MissingFile(f"{file} cannot be read ({error.strerror}). Put it there again.") from None
    except strict_json.NotJSON as error:
        raise MalformedAnnotations(f"{file}: {error}. Fetch it again.") from None
    videos = document.get("videos") if isinstance(document, dict) else None
    if not isinstance(videos, dict) or not videos:
        raise MalformedAnnotations(
            f'{file}: no videos; expected {{"videos": {{"<video>": {{"frames": [...], "expressions": {{...}}}}}}}}.'
            " Fetch it again."
        )
    return videos


def _clip(file: str, video: str, found: Any, unions: bool, problems: Problems) -> Clip:
    where = f"{file}, video {video}"
    if video in ("", ".", "..") or "/" in video or "\\" in video or "\0" in video:
        problems.add(f"{file}, video {video!r}", "the name can name no folder", "correct it")
        return Clip(video, (), ())
    if not isinstance(found, dict):
        problems.add(where, shown(found), "give an object with frames and expressions")
        return Clip(video, (), ())
    frames, expressions = found.get("frames"), found.get("expressions")
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, str) for frame in frames):
        problems.add(where, f"frames = {shown(frames)}", _FRAMES)
        frames = []
    if not isinstance(expressions, dict):
        problems.add(where, f"expressions = {shown(expressions)}", 'give {"0": {"exp": "...", ...}, ...}')
        expressions = {}
    read_target = _annotations if unions else _object
    kept = (_expression(where, key, each, read_target, problems) for key, each in expressions.items())
    return Clip(video, tuple(frames), tuple(each for each in kept if each is not None))


def _expression(
    where: str, key: str, found: Any, read_target: Callable[[Mapping[str, Any]], Target | str], problems: Problems
) -> Expression | None:
    """Return one expression, or None if something is wrong with it."""
    before, where = len(problems), f"{where}, expression {key}"
    if not _NUMBER.fullmatch(key):
        problems.add(where, f"its key {key!r} is no number", "number the expressions of a video from 0")
    if not isinstance(found, dict):
        problems.add(where, shown(found), 'give an object with "exp"')
        return None
    text = found.get("exp")
    if not isinstance(text, str) or not any(letter.isalnum() for letter in text):
        what = f"exp {shown(text)} has no word" if isinstance(text, str) else f"exp = {shown(text)}"
        problems.add(where, what, "write a sentence, or remove the expression")
    target = read_target(found)
    if isinstance(target, str):
        problems.add(where, *target.split("; ", 1))
    if len(problems) > before or isinstance(target, str):
        return None
    return Expression(int(key), clean(str(text)), target)


def _object(found: Mapping[str, Any]) -> Target | str:
    """Return the object that is meant, or what is wrong and what to do."""
    number = found.get("obj_id")
    text = str(number) if type(number) is int else number
    if isinstance(text, str) and _NUMBER.fullmatch(text) and 1 <= int(text) <= LARGEST_OBJECT:
        return int(text), ()
    return f"obj_id = {shown(number)}; give the object's number in the masks, from 1 to {LARGEST_OBJECT}"


def _annotations(found: Mapping[str, Any]) -> Target | str:
    """Return the annotations whose union is meant, or what is wrong and what to do."""
    lists = [found.get("obj_id"), found.get("anno_id")]
    for key, numbers in zip(("obj_id", "anno_id"), lists, strict=True):
        good = isinstance(numbers, list) and all(_NUMBER.fullmatch(str(n)) and type(n) in (int, str) for n in numbers)
        if not numbers or not good:
            return f"{key} = {shown(numbers)}; give a list of numbers"
    objects, annotations = ([str(number) for number in numbers or ()] for numbers in lists)
    if len(objects) != len(annotations):
        return f"{len(objects)} obj_id, but {len(annotations)} anno_id; give one annotation for each object"
    return 0, tuple(sorted(set(annotations), key=int))
