"""The choice of the labelled frames of a video among those that have a mask: dataset.labelled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

_WRITTEN = re.compile(r"even(?::([1-9][0-9]{0,5}))?|every:([1-9][0-9]{0,5})")
_EVEN = 3  # labelled frames of a video, as in A2D

Frame = TypeVar("Frame")


class UnknownChoice(ValueError):
    """Raised if dataset.labelled is no choice of frames."""


@dataclass(frozen=True)
class Choice:
    """Either `even` frames a video, or every `every`-th one; the other is 0."""

    even: int
    every: int

    @classmethod
    def parse(cls, text: str) -> Choice:
        """Return the choice that is written as even, even:N or every:N. Raises UnknownChoice."""
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise UnknownChoice(
                f"dataset.labelled = {text!r}: expected even:N (N frames of a video), every:N (every N-th frame"
                " that has a mask), or even, which is even:3"
            )
        return cls(0, int(match[2])) if match[2] else cls(int(match[1] or _EVEN), 0)

    def of(self, frames: Sequence[Frame]) -> tuple[Frame, ...]:
        """Return the chosen ones of the frames: every N-th from the first one on, or the middles of N equal parts.

        All are chosen where there are not more than N."""
        if self.every:
            return tuple(frames[:: self.every])
        if len(frames) <= self.even:
            return tuple(frames)
        return tuple(frames[(2 * k + 1) * len(frames) // (2 * self.even)] for k in range(self.even))
