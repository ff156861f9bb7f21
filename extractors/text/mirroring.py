"""Mirroring of sentences: exchange of the words for left and right."""

import re

SIDE = re.compile(r"(?<![a-z])(left|right)(?=(?:most|hand|handed|side|ward|wards)?(?![a-z]))", re.IGNORECASE)
OTHER = {"left": "right", "right": "left"}


def mirrored(sentence: str) -> str:
    """Return the sentence with left and right swapped, also in compounds ("leftmost", "right-hand"); case is kept.

    Every such word is treated as a direction, which holds for all sentences of A2D and J-HMDB: "a man who left" would
    become "a man who right"."""
    return SIDE.sub(lambda found: like(OTHER[found[0].lower()], found[0]), sentence)


def like(word: str, model: str) -> str:
    """Return `word` in the case of `model`: all capitals, a capital first, or unchanged."""
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
