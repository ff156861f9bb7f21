"""Checked decoding of the run lengths of masks that come from outside, before a library in C reads them.

COCO's text of run lengths has six bits a character (48 to 111): five bits of a number, the lowest first, and 0x20 where
the number goes on; the sign is that of the last five bits. From the fourth run on, a number is the difference to the
run two places before it. Runs of 0 and 1 alternate, in column-major order, and begin with 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from data.wording import counted, shown

_FIRST, _LAST = 48, 111  # codes of the characters
_GOES_ON, _BITS, _SIGN = 0x20, 0x1F, 0x10
_LONGEST_NUMBER = 7  # characters; enough for the difference of two runs of 2**31 pixels

Runs = Int64[np.ndarray, " n"]


class WrongRuns(ValueError):
    """Raised if run lengths do not describe a mask of the given size; the message says what was found and expected."""


def checked_runs(counts: Any, height: int, width: int) -> Runs:
    """Return the runs of a mask from COCO's text or a list of integers. Raises WrongRuns."""
    if isinstance(counts, str):
        runs = _of_text(counts)
    elif isinstance(counts, list):
        runs = _of_list(counts, height * width)
    else:
        raise WrongRuns(f"{shown(counts)}; expected run lengths, a text or a list of integers")
    if runs.min() < 0:
        raise WrongRuns(f"a run of {runs.min()} pixels; expected no negative one")
    total = int(runs.sum()) if runs.max() <= height * width else int(runs.max())
    if total != height * width:
        more = "" if runs.max() <= height * width else " in one run"
        raise WrongRuns(f"{counted(total, 'pixel')}{more}; expected {height * width} ({height} x {width})")
    return runs


def needs_new_form(runs: Runs) -> bool:
    """Return whether a run between others is empty, which COCO's library takes for the end of two masks."""
    return bool((runs[1:-1] == 0).any())


def mask_of_runs(runs: Runs, height: int, width: int) -> UInt8[np.ndarray, "h w"]:
    """Return the mask (0 or 1) that checked runs describe."""
    pixels = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8)
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def _of_list(counts: list[Any], pixels: int) -> Runs:
    if not counts:
        raise WrongRuns("an empty list; expected run lengths")
    if set(map(type, counts)) != {int}:
        place = next(place for place, count in enumerate(counts) if type(count) is not int)
        raise WrongRuns(f"run {place} is {shown(counts[place])}; expected an integer")
    if max(counts) > pixels or min(counts) < 0:
        place = next(place for place, count in enumerate(counts) if not 0 <= count <= pixels)
        raise WrongRuns(f"run {place} is {shown(counts[place])}; expected 0 to {pixels}, the pixels of the image")
    return np.array(counts, np.int64)


def _of_text(counts: str) -> Runs:
    if not counts:
        raise WrongRuns("an empty text; expected run lengths")
    codes = np.frombuffer(counts.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    if codes.min() < _FIRST or codes.max() > _LAST:
        place = int(((codes < _FIRST) | (codes > _LAST)).argmax())
        raise WrongRuns(f"character {place} is {shown(counts[place])}; expected those of COCO's run lengths, 0 to o")
    codes -= _FIRST
    ends = np.flatnonzero(codes < _GOES_ON)
    if len(ends) == 0 or ends[-1] != len(codes) - 1:
        raise WrongRuns("the text ends inside a number; it is cut short")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST_NUMBER:
        raise WrongRuns(f"a number of {lengths.max()} characters; expected {_LONGEST_NUMBER} or fewer")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & _BITS) << shifts, starts)
    numbers -= np.where(codes[ends] & _SIGN, np.int64(1) << (5 * lengths), 0)
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers
