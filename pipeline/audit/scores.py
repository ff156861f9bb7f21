"""The metrics once more, written anew: numpy alone, no code shared with `models.metrics` or pycocotools.

Protocol acga: the authors' evaluator (reference page, section 4). Protocol coco: COCO's definitions (one prediction and
one truth a frame, areas unbounded).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SMOOTH = 1e-6
COARSE = (0.5, 0.6, 0.7, 0.8, 0.9)
FINE = tuple(percent / 100 for percent in range(50, 100, 5))
RECALLS = 101

Mask = np.ndarray
"""A mask (h, w) of bool."""


def unpacked(encoded: Mapping[str, Any]) -> Mask:
    """The mask of COCO's compressed run lengths: six bits a character, the lowest first, each run relative to the one
    before the last; columns first."""
    height, width = encoded["size"]
    runs: list[int] = []
    place, text = 0, encoded["counts"]
    while place < len(text):
        value = shift = 0
        more = True
        while more:
            bits = ord(text[place]) - 48
            value |= (bits & 0x1F) << shift
            more = bool(bits & 0x20)
            place, shift = place + 1, shift + 5
            if not more and bits & 0x10:
                value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    filled = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    if filled.size != height * width:
        raise ValueError(f"run lengths of {filled.size} pixels for a mask of {height} x {width}")
    return filled.reshape(width, height).T


def overlap(one: Mask, other: Mask) -> tuple[int, int]:
    """Pixels in both, and in either."""
    return int(np.logical_and(one, other).sum()), int(np.logical_or(one, other).sum())


def acga(overlaps: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The scores of protocol acga."""
    ious = _ious(overlaps)
    average = _mean((ious >= at).mean() for at in FINE)
    return _scores(overlaps, ious, {at: float((ious >= at).mean()) for at in COARSE}, average)


def coco(overlaps: Sequence[tuple[int, int]], confidences: Sequence[float]) -> dict[str, Any]:
    """The scores of protocol coco."""
    ious = _ious(overlaps)
    exact = np.array([common / union if union else 0.0 for common, union in overlaps])
    order = sorted(range(len(ious)), key=lambda place: -confidences[place])
    average = _mean(_average_precision(exact[order] >= at) for at in FINE)
    return _scores(overlaps, ious, {at: float((ious > at).mean()) for at in COARSE}, average)


def _ious(overlaps: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.array([(common + SMOOTH) / (union + SMOOTH) for common, union in overlaps])


def _mean(values: Any) -> float:
    found = list(values)
    return float(sum(found) / len(found))


def _average_precision(right: np.ndarray) -> float:
    """The mean of the best precision at or beyond 101 recalls."""
    total, hits, points = len(right), 0, []
    for rank, is_right in enumerate(right, start=1):
        hits += bool(is_right)
        points.append((hits / total, hits / rank))
    best: list[float] = []
    for step in range(RECALLS):
        beyond = [precision for recall, precision in points if recall >= step / (RECALLS - 1)]
        best.append(max(beyond, default=0.0))
    return sum(best) / RECALLS


def _scores(
    overlaps: Sequence[tuple[int, int]], ious: np.ndarray, precision: dict[float, float], average: float
) -> dict[str, Any]:
    union = sum(each for _, each in overlaps)
    return {
        "mean_iou": float(ious.mean()),
        "overall_iou": sum(common for common, _ in overlaps) / union if union else 1.0,
        "map": average,
        "precision": {str(at): value for at, value in precision.items()},
        "samples": len(overlaps),
    }
