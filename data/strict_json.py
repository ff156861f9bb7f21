"""The reader of JSON that users hand in: strict UTF-8 and strict JSON, or one line that says what is wrong and where.

Python's `json` accepts NaN and infinities, keeps the last of duplicate keys, turns 1e999 into infinity and lets half of
a surrogate pair pass. Each of these is an error here.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.wording import shown

_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")  # an escape that may be half of a surrogate pair
_KEY = re.compile(r"\w{1,80}", re.ASCII)
_LONGEST_PLACE = 200  # characters; the end of a longer place is shown


class NotJSON(ValueError):
    """Raised if text is not strict JSON; the message says what was found and where, without the name of the file."""


def read(path: Path) -> Any:
    """Return the value in a file. Raises OSError, NotJSON."""
    return parse(path.read_bytes())


def parse(content: bytes) -> Any:
    """Return the value of a text in UTF-8. Raises NotJSON."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotJSON(f"not JSON (no UTF-8 at byte {error.start})") from None
    hooks = _Hooks()
    try:
        value = json.loads(
            text, object_pairs_hook=hooks.members, parse_constant=hooks.constant, parse_float=hooks.number
        )
    except RecursionError:
        raise NotJSON("not JSON that can be read (it is nested too deeply)") from None
    except json.JSONDecodeError as error:
        raise NotJSON(f"not JSON ({error})") from None
    except ValueError:  # of int(), which refuses thousands of digits
        raise NotJSON("not JSON that can be read (a number has thousands of digits)") from None
    if hooks.repeated is not None:
        holder, key = hooks.repeated
        raise NotJSON(f"{_where(value, holder)}: the key {shown(key)} is there twice; expected it once")
    if hooks.infinite is not None:
        place = next((place for place, found in _walk(value) if isinstance(found, float) and not math.isfinite(found)))
        raise NotJSON(f"{place}: {hooks.infinite}; expected a finite number")
    if _HALF_PAIR.search(content):
        _refuse_half_pairs(value)
    return value


class _Hooks:
    """What the parser meets that is wrong: the first object with a duplicate key, and the first infinite number."""

    def __init__(self) -> None:
        self.repeated: tuple[dict[str, Any], str] | None = None
        self.infinite: str | None = None

    def members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs) and self.repeated is None:
            self.repeated = found, next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return found

    def constant(self, name: str) -> float:
        self.infinite = self.infinite or name
        return math.nan

    def number(self, text: str) -> float:
        value = float(text)
        if math.isinf(value):
            self.infinite = self.infinite or shown(text)
        return value


def _refuse_half_pairs(value: Any) -> None:
    for place, found in _walk(value):
        for text in found if isinstance(found, dict) else [found]:
            if isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text):
                raise NotJSON(f"{place}: {shown(text)} holds half of a surrogate pair; expected whole characters")


def _where(value: Any, holder: dict[str, Any]) -> str:
    """Return the place of an object in a value; an object that a duplicate key has replaced has no place."""
    return next((place for place, found in _walk(value) if found is holder), "an object")


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value inside a value in the order of the text, with its place such as "annotations[3].size"."""
    waiting = [("", value)]
    while waiting:
        place, found = waiting.pop()
        yield place[-_LONGEST_PLACE:] or "the document", found
        if isinstance(found, dict):
            waiting += [(_member(place, key), inner) for key, inner in reversed(found.items())]
        elif isinstance(found, list):
            waiting += [(f"{place}[{index}]", inner) for index, inner in reversed(list(enumerate(found)))]


def _member(place: str, key: str) -> str:
    if not _KEY.fullmatch(key):
        return f"{place}[{shown(key)}]"
    return f"{place}.{key}" if place else key
