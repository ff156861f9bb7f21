"""Words of messages: counts with their nouns, and values that are shown shortened."""

from __future__ import annotations

import json
from typing import Any

LONGEST = 80  # characters of a value in a message


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun in the right number: "1 error", "2 errors", "0 errors".

    `plural` is the noun for every count but 1; without it, the plural is the noun with an s.
    """
    return f"{count} {numbered(count, noun, plural)}"


def numbered(count: object, noun: str, plural: str | None = None) -> str:
    """Return a word in the singular if the count is 1, else in the plural (the word with an s by default)."""
    return noun if count == 1 else plural or f"{noun}s"


def shown(value: Any) -> str:
    """Return a value from a JSON document on one line, shortened: a text in single quotes, all else as JSON."""
    try:
        if isinstance(value, list | dict) and len(value) > LONGEST:
            return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} entries"
        text = ascii(value) if isinstance(value, str) else json.dumps(value)
    except (RecursionError, ValueError):
        return "a value that is nested too deeply"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
