"""An independent implementation of the metrics in numpy, without code of `models.evaluation.metrics` or pycocotools.

The protocol acga follows the authors' evaluator (reference page, section 4). The protocol coco follows COCO's
definitions (one prediction and one truth per frame, areas unbounded).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.wording import counted

SMOOTH = 1e-6
COARSE = (0.5, 0.6, 0.7, 0.8, 0.9)
FINE = tuple(percent / 100 for percent in range(50, 100, 5))
RECALLS = np.linspace(0.0, 1.0, 101)

Mask = np.ndarray
"""A mask (h, w) of bool."""


def unpacked(encoded: Mapping[str, Any]) -> Mask:
    """Decode COCO's compressed run lengths into a mask. Raises ValueError if they do not fill the mask.

    Each character holds six bits: five bits of the value, the lowest first, and a continuation bit. Each run is stored
    as the difference to the run two places before it. Pixels are in column-major order.
    """
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
        raise ValueError(f"run lengths of {counted(filled.size, 'pixel')} for a mask of {height} x {width}")
    return filled.reshape(width, height).T


def overlap(one: Mask, other: Mask) -> tuple[int, int]:
    """Return the number of pixels in the intersection and in the union of two masks."""
    return int(np.logical_and(one, other).sum()), int(np.logical_or(one, other).sum())


def acga(overlaps: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Compute the scores of the protocol acga."""
    ious = _ious(overlaps)
    average = _mean((ious >= at).mean() for at in FINE)
    return _scores(overlaps, ious, {at: float((ious >= at).mean()) for at in COARSE}, average)


def coco(overlaps: Sequence[tuple[int, int]], confidences: Sequence[float]) -> dict[str, Any]:
    """Compute the scores of the protocol coco."""
    ious = _ious(overlaps)
    exact = np.array([common / union if union else 0.0 for common, union in overlaps])
    order = sorted(range(len(ious)), key=lambda place: -confidences[place])
    average = _mean(_average_precision(exact[order] >= at) for at in FINE)
    above = {at: sum(_single(each) > at for each in overlaps) / len(overlaps) for at in COARSE}
    return _scores(overlaps, ious, above, average)


def iou(overlap: tuple[int, int]) -> float:
    """Return the intersection over union; it is 1 for two empty masks."""
    return (overlap[0] + SMOOTH) / (overlap[1] + SMOOTH)


def _single(overlap: tuple[int, int]) -> float:
    """Return the intersection over union as MTTR's evaluator computes it, in float32, widened to float64."""
    smooth = np.float32(SMOOTH)
    return float((np.float32(overlap[0]) + smooth) / (np.float32(overlap[1]) + smooth))


def _ious(overlaps: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.array([iou(each) for each in overlaps])


def _mean(values: Any) -> float:
    found = list(values)
    return float(sum(found) / len(found))


def _average_precision(right: np.ndarray) -> float:
    """Return the mean of the best precision at or beyond each of 101 recalls, which are bitwise equal to COCO's."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    best = [*np.maximum.accumulate(precision[::-1])[::-1], 0.0]  # best at each rank or later; 0 after the last rank
    reached = np.searchsorted(hits / len(right), RECALLS)
    return _mean(best[min(place, len(right))] for place in reached)


def intervals(
    overlaps: Sequence[tuple[int, int]],
    confidences: Sequence[float] | None,
    videos: Sequence[str],
    resamples: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Return the 95 % bootstrap intervals of the scores.

    Each resample draws as many videos as there are, with replacement and with all their samples.
    """
    names = sorted(set(videos))
    of_video = {name: [place for place, video in enumerate(videos) if video == name] for name in names}
    words = np.random.PCG64(np.random.SeedSequence([seed])).random_raw(resamples * len(names))
    drawn: dict[str, list[float]] = {}
    for draw in np.split(words, resamples):
        places = sorted(place for word in draw for place in of_video[names[int(word) % len(names)]])
        chosen = [overlaps[place] for place in places]
        found = acga(chosen) if confidences is None else coco(chosen, [confidences[place] for place in places])
        for name, value in flat(found).items():
            drawn.setdefault(name, []).append(value)
    return {name: (_quantile(values, 0.025), _quantile(values, 0.975)) for name, values in drawn.items()}


def _quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile, linearly interpolated between the two nearest values."""
    ordered, place = sorted(values), share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def flat(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores by name; precisions are named like "precision 0.5"."""
    values = {key: float(found[key]) for key in ("mean_iou", "overall_iou", "map")}
    return values | {f"precision {at}": float(value) for at, value in found["precision"].items()}


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
