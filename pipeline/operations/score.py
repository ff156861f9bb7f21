"""Scoring of masks from any source under both protocols; truth and predictions are files in COCO's formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.letterbox import Letterbox
from data.masks import RunLengths, decode_rle, encode_rle
from models.evaluation.metrics import (
    Scores,
    acga_scores,
    acga_truth,
    ious_of,
    overall_iou,
    overlap,
    precision_above,
    ranked_precision,
)
from pipeline.operations.coco_files import Prediction, predictions_in, truths_in

SQUARE = 512  # side in pixels of the letterbox through which the authors' evaluator passes the truth


@dataclass(frozen=True)
class Candidates:
    """The true mask of an image and its predicted masks with their confidences, in the order of the file."""

    truth: RunLengths
    predictions: tuple[Prediction, ...]

    @property
    def first_best(self) -> RunLengths:
        """Return the first of the masks with the highest confidence, or an empty mask if there is no prediction."""
        if not self.predictions:
            return encode_rle(np.zeros(self.truth["size"], np.uint8))
        return max(self.predictions, key=lambda one: one[1])[0]

    @property
    def last_best(self) -> RunLengths:
        """Return the last of the masks with the highest confidence, or an empty mask if there is no prediction."""
        return Candidates(self.truth, self.predictions[::-1]).first_best


def score(truth: Path, predictions: Path) -> dict[str, Any]:
    """Compute the scores by protocol, and count the images without a prediction, which score as an empty mask.

    The protocol coco uses the original truth, counts an IoU above a threshold and computes COCO's AP over all
    candidates. The protocol acga_masks passes the truth through the letterbox of 512 and back as the authors' evaluator
    does, counts an IoU of the most confident candidate that reaches a threshold, and computes "map" as the mean of the
    precisions. Of equally confident candidates, coco takes the last and acga_masks the first (docs/scores.md). Raises
    `BadMasks`.
    """
    images = truths_in(truth)
    found = predictions_in(predictions, images)
    samples = [Candidates(mask, tuple(found.get(image, ()))) for image, mask in images.items()]
    return {
        "protocols": {"coco": asdict(coco_of(samples)), "acga_masks": asdict(acga_of(samples))},
        "images": len(samples),
        "without_prediction": sum(not sample.predictions for sample in samples),
    }


def coco_of(samples: Sequence[Candidates]) -> Scores:
    """Compute the scores of the protocol coco."""
    overlaps = [overlap(sample.last_best, sample.truth) for sample in samples]
    ious = ious_of(overlaps)
    return Scores(
        mean_iou=float(ious.mean()),
        overall_iou=overall_iou(overlaps),
        map=ranked_precision([sample.predictions for sample in samples], [sample.truth for sample in samples]),
        precision=precision_above(overlaps),
        samples=len(samples),
    )


def acga_of(samples: Sequence[Candidates]) -> Scores:
    """Compute the scores of the authors' evaluator without its threshold, since masks are thresholded already."""
    overlaps = []
    for sample in samples:
        height, width = sample.truth["size"]
        box = Letterbox(height, width, SQUARE)
        restored = encode_rle(acga_truth(box.mask(decode_rle(sample.truth)), box))
        overlaps.append(overlap(sample.first_best, restored))
    return acga_scores(overlaps)
