"""Confidence intervals of scores by the percentile bootstrap over videos (Efron and Tibshirani, 1993).

Samples of one video are not independent, so whole videos are drawn. A draw is a weight (a count) for each sample.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int64

from models.evaluation.metrics import MAP_THRESHOLDS, PRECISION_THRESHOLDS, Overlap, ious_of, single_ious

LEVEL = 0.95
RECALLS = np.linspace(0.0, 1.0, 101)  # the recall thresholds of COCO

Interval = tuple[float, float]
Weights = Int64[np.ndarray, " n"]


def intervals(
    overlaps: Sequence[Overlap],
    confidences: Sequence[float] | None,
    videos: Sequence[str],
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """Return the 95 % intervals of mean_iou, overall_iou, map and each precision ("precision 0.5").

    `videos` holds the video of each sample. With `confidences` (one per sample) the scores are those of protocol coco:
    precision counts IoUs above a threshold, and map is COCO's average precision. With None they are those of protocol
    acga. Raises NoSamples.
    """
    ious = ious_of(overlaps)
    of_samples = Samples(
        ious,
        np.array([sample.intersection for sample in overlaps]),
        np.array([sample.union for sample in overlaps]),
        None if confidences is None else np.array(confidences),
    )
    drawn = [of_samples.scores(weights) for weights in draws(videos, resamples, seed)]
    tail = (1 - LEVEL) / 2
    return {name: interval(np.array([scores[name] for scores in drawn]), tail) for name in drawn[0]}


def interval(values: Float[np.ndarray, " r"], tail: float) -> Interval:
    """Return the quantiles `tail` and 1 - `tail` of the values."""
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def draws(videos: Sequence[str], resamples: int, seed: int) -> list[Weights]:
    """Return the count of each sample in each of `resamples` draws of as many videos as there are, with replacement.

    The draws use the raw words of a bit generator, whose values NumPy guarantees never to change.
    """
    different, which = np.unique(np.array(videos), return_inverse=True)
    words = np.random.PCG64(np.random.SeedSequence([seed])).random_raw((resamples, len(different)))
    chosen = (words % np.uint64(len(different))).astype(np.int64)
    return [np.bincount(row, minlength=len(different))[which] for row in chosen]


class Samples:
    """The IoU, intersection, union and confidence of every sample, from which weighted scores are computed."""

    def __init__(
        self,
        ious: Float[np.ndarray, " n"],
        intersections: Int64[np.ndarray, " n"],
        unions: Int64[np.ndarray, " n"],
        confidences: Float[np.ndarray, " n"] | None,
    ) -> None:
        self.ious, self.intersections, self.unions, self.confidences = ious, intersections, unions, confidences

    def scores(self, weights: Weights) -> Mapping[str, float]:
        """Return the scores in which each sample has the given weight."""
        total, union = weights.sum(), weights @ self.unions
        named = {f"precision {at}": float(weights @ counts / total) for at, counts in self._counting.items()}
        return {
            "mean_iou": float(weights @ self.ious / total),
            "overall_iou": float(weights @ self.intersections / union) if union else 1.0,
            "map": float(np.mean([self.precision(weights, at) for at in MAP_THRESHOLDS])),
            **named,
        }

    @cached_property
    def _counting(self) -> Mapping[float, Bool[np.ndarray, " n"]]:
        """Return for each threshold of precision which samples count, which differs between the protocols."""
        if self.confidences is None:
            return {at: self.ious >= at for at in PRECISION_THRESHOLDS}
        ious = single_ious(self.intersections, self.unions)
        return {at: ious > at for at in PRECISION_THRESHOLDS}

    def precision(self, weights: Weights, threshold: float) -> float:
        """Return the share of samples whose IoU reaches the threshold, or COCO's average precision at it."""
        right = self.ious >= threshold
        if self.confidences is None:
            return float(weights @ right / weights.sum())
        return average_precision(right, self.confidences, weights)


def average_precision(right: Bool[np.ndarray, " n"], confidences: Float[np.ndarray, " n"], weights: Weights) -> float:
    """Return COCO's weighted average precision, each sample having one true mask and one prediction, right or wrong."""
    order = np.argsort(-confidences, kind="mergesort")
    true = np.cumsum((right * weights)[order])
    recall, precision = true / weights.sum(), true / np.maximum(np.cumsum(weights[order]), 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(places, len(precision))].mean())
