"""Suggestions of what was meant by an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

Keys = Mapping[str, Iterable[str]]
"""The keys of each section."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, or None if none is like it."""
    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None


def keys_meant(section: str, key: str, known: Keys) -> tuple[str, ...]:
    """Return the known keys, as "section.key", that may be meant by a key that its section does not have.

    These are the nearest key of the same section, or else the keys of that name in other sections.
    """
    meant = nearest(key, known.get(section, ()))
    return (f"{section}.{meant}",) if meant else _elsewhere(key, known)


def sections_meant(name: str, known: Keys) -> tuple[str, ...]:
    """Return the sections that may be meant by an unknown one, or else the keys of that name, as "section.key"."""
    meant = nearest(name, known)
    return (meant,) if meant else _elsewhere(name, known)


def _elsewhere(key: str, known: Keys) -> tuple[str, ...]:
    return tuple(f"{section}.{key}" for section, keys in known.items() if key in keys)
