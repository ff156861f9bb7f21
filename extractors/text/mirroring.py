"""Sentences about a mirrored clip."""

import re

SIDE = re.compile(r"(?<![a-z])(left|right)(?=(?:most|hand|handed|side|ward|wards)?(?![a-z]))", re.IGNORECASE)
OTHER = {"left": "right", "right": "left"}


def mirrored(sentence: str) -> str:
    """Return the sentence with left and right swapped, in compounds too ("leftmost", "right-hand"); case is kept.

    Every such word is taken for a direction, as all of them are in the sentences of A2D and J-HMDB: "a man who left"
    becomes "a man who right".
    """
    return SIDE.sub(lambda found: like(OTHER[found[0].lower()], found[0]), sentence)


def like(word: str, model: str) -> str:
    """Return the word in the case of another: all capitals, a capital first, or neither."""
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
