"""The metrics of two protocols of referring video segmentation, whose numbers must not be compared with each other.

acga: the authors' evaluator (`util/tool.py`). Foreground is where the probability exceeds half of the map's maximum,
the true mask is the letterboxed mask mapped back to the frame, and "mAP" is the mean precision over ten thresholds.
coco: MTTR, ReferFormer and later work. Foreground is where the probability exceeds 0.5, the true mask is that of the
original frame, and "mAP" is COCO's average precision over masks ranked by confidence.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from data.letterbox import Letterbox
from data.masks import RunLengths
from data.wording import counted

SMOOTH = 1e-6  # pixels, from the authors' evaluator: two empty masks have IoU 1
PRECISION_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
MAP_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
MOST_DETECTIONS = 100  # per frame, as in COCO
NOTHING = "No sample to score, expected one or more. Check the split and the data set's exclusions."


class NoSamples(ValueError):
    """Error raised if there are no samples to score."""


class UnequalCounts(ValueError):
    """Error raised if the numbers of predictions, confidences and true masks differ."""


class FrameSizeMismatch(ValueError):
    """Error raised if a predicted and a true mask have different sizes."""


@dataclass(frozen=True)
class Overlap:
    """The intersection and the union of a predicted and a true mask, in pixels of the frame."""

    intersection: int
    union: int

    @property
    def iou(self) -> float:
        """Return the intersection over union, 1 for two empty masks."""
        return (self.intersection + SMOOTH) / (self.union + SMOOTH)


@dataclass(frozen=True)
class Scores:
    """The scores of one protocol, in [0, 1], and the number of samples; `precision` has the keys "0.5" to "0.9"."""

    mean_iou: float
    overall_iou: float
    map: float
    precision: dict[str, float]
    samples: int


def acga_prediction(response: Float[Tensor, "s s"], box: Letterbox) -> UInt8[np.ndarray, "h w"]:
    """Return the predicted mask {0, 1} of the frame for a fused response (logits) in protocol acga."""
    probability = torch.sigmoid(response.float())
    mask = probability > 0.5 * probability.max()
    return box.restore(mask.to(torch.uint8).cpu().numpy())


def acga_truth(mask: UInt8[np.ndarray, "s s"], box: Letterbox) -> UInt8[np.ndarray, "h w"]:
    """Return the true mask of the frame in protocol acga: the letterboxed mask mapped back, not the original mask."""
    return box.restore(mask)


def coco_prediction(response: Float[Tensor, "s s"], box: Letterbox) -> tuple[UInt8[np.ndarray, "h w"], float]:
    """Return the predicted mask {0, 1} of the frame for a fused response (logits) in protocol coco, and its confidence.

    The confidence is the mean probability inside the mask, or 0 if the mask is empty.
    """
    logits = box.crop_resize(response.float().cpu().numpy())
    probability = torch.sigmoid(torch.from_numpy(logits)).numpy()
    inside = probability > 0.5
    confidence = float(probability[inside].mean(dtype=np.float64)) if inside.any() else 0.0
    return inside.astype(np.uint8), confidence


def overlap(prediction: RunLengths, truth: RunLengths) -> Overlap:
    """Return the overlap of two masks. Raises FrameSizeMismatch."""
    if tuple(prediction["size"]) != tuple(truth["size"]):
        found, expected = tuple(prediction["size"]), tuple(truth["size"])
        raise FrameSizeMismatch(f"Predicted mask of {found} pixels, expected the truth's {expected}. Restore it first.")
    common = int(rle.area(rle.merge([prediction, truth], intersect=True)))
    return Overlap(common, int(rle.area(prediction)) + int(rle.area(truth)) - common)


def acga_scores(overlaps: Sequence[Overlap]) -> Scores:
    """Return the scores of protocol acga; precision counts IoUs at or above a threshold. Raises NoSamples."""
    ious = ious_of(overlaps)
    return Scores(
        mean_iou=float(ious.mean()),
        overall_iou=overall_iou(overlaps),
        map=float(np.mean([np.mean(ious >= threshold) for threshold in MAP_THRESHOLDS])),
        precision={str(threshold): float(np.mean(ious >= threshold)) for threshold in PRECISION_THRESHOLDS},
        samples=len(overlaps),
    )


def coco_scores(
    predictions: Sequence[RunLengths], confidences: Sequence[float], truths: Sequence[RunLengths]
) -> Scores:
    """Return the scores of protocol coco; precision counts float32 IoUs above a threshold.

    Raises NoSamples, UnequalCounts and FrameSizeMismatch.
    """
    if not len(predictions) == len(confidences) == len(truths):
        of_masks = f"{counted(len(predictions), 'prediction')}, {counted(len(confidences), 'confidence')}"
        counts = f"{of_masks} and {counted(len(truths), 'truth')}"
        raise UnequalCounts(f"Protocol coco: {counts}: expected as many of each. Give one of each for every sample.")
    overlaps = [overlap(prediction, truth) for prediction, truth in zip(predictions, truths, strict=True)]
    ious = ious_of(overlaps)
    return Scores(
        mean_iou=float(ious.mean()),
        overall_iou=overall_iou(overlaps),
        map=average_precision(predictions, confidences, truths),
        precision=precision_above(overlaps),
        samples=len(overlaps),
    )


def precision_above(overlaps: Sequence[Overlap]) -> dict[str, float]:
    """Return the share of samples whose IoU lies above each threshold, as protocol coco counts. Raises NoSamples."""
    if not overlaps:
        raise NoSamples(NOTHING)
    ious = single_ious(
        np.array([sample.intersection for sample in overlaps]), np.array([sample.union for sample in overlaps])
    )
    return {str(threshold): float(np.mean(ious > threshold)) for threshold in PRECISION_THRESHOLDS}


def single_ious(intersections: Int64[np.ndarray, " n"], unions: Int64[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the IoUs that protocol coco compares with thresholds: computed in float32 as by the evaluator of MTTR.

    The evaluator compares the float32 value with the threshold in float64. So an IoU of exactly 3/5 lies above 0.6,
    because the float32 number next to 0.6 does, and one of 7/10 of large masks does not lie above 0.7.
    """
    smooth = np.float32(SMOOTH)
    ious = (intersections.astype(np.float32) + smooth) / (unions.astype(np.float32) + smooth)
    return ious.astype(np.float64)


def average_precision(
    predictions: Sequence[RunLengths], confidences: Sequence[float], truths: Sequence[RunLengths]
) -> float:
    """Return COCO's average precision over IoU .50:.05:.95 of one predicted mask and one true mask per sample.

    Predictions of equal confidence are ranked in the given order.
    """
    return ranked_precision([[ranked] for ranked in zip(predictions, confidences, strict=True)], truths)


def ranked_precision(predictions: Sequence[Sequence[tuple[RunLengths, float]]], truths: Sequence[RunLengths]) -> float:
    """Return COCO's average precision of any number of (mask, confidence) pairs and one true mask per sample."""
    if not any(predictions):
        return 0.0
    numbers = range(1, len(truths) + 1)  # from 1, because pycocotools uses 0 for "no match"
    truth = COCO()
    truth.dataset = {
        "images": [
            {"id": number, "height": mask["size"][0], "width": mask["size"][1]}
            for number, mask in zip(numbers, truths, strict=True)
        ],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "segmentation": mask, **extent(mask)}
            for number, mask in zip(numbers, truths, strict=True)
        ],
    }
    ranked = [
        {"image_id": number, "category_id": 1, "segmentation": mask, "score": confidence}
        for number, candidates in zip(numbers, predictions, strict=True)
        for mask, confidence in candidates
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(ranked), "segm")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, float("inf")]], ["all"]
        evaluation.params.maxDets = [MOST_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    return float(evaluation.eval["precision"].mean())


def extent(mask: RunLengths) -> dict[str, Any]:
    """Return the area and the bounding box that a COCO annotation has besides its mask."""
    return {"area": float(rle.area(mask)), "bbox": rle.toBbox(mask).tolist()}


def ious_of(overlaps: Sequence[Overlap]) -> Float[np.ndarray, " n"]:
    """Return the IoU of every sample. Raises NoSamples."""
    if not overlaps:
        raise NoSamples(NOTHING)
    return np.array([sample.iou for sample in overlaps])


def overall_iou(overlaps: Sequence[Overlap]) -> float:
    """Return the sum of intersections divided by the sum of unions, or 1 if all masks are empty."""
    union = sum(sample.union for sample in overlaps)
    return sum(sample.intersection for sample in overlaps) / union if union else 1.0
