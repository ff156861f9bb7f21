"""Scoring of masks from any source under both protocols; truth and predictions are files in COCO's formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from data.letterbox import Letterbox
from data.masks import RunLengths, decode_rle, encode_rle
from models.evaluation.metrics import PRECISION_THRESHOLDS as THRESHOLDS
from models.evaluation.metrics import Scores, acga_scores, acga_truth, ious_of, overall_iou, overlap, ranked_precision

SQUARE = 512  # side in pixels of the letterbox through which the authors' evaluator passes the truth


class BadMasks(ValueError):
    """Error of a file of masks that is not in COCO's format or does not match the other file."""


@dataclass(frozen=True)
class Candidates:
    """The true mask of an image and its predicted masks with their confidences, in descending order of confidence."""

    truth: RunLengths
    predictions: tuple[tuple[RunLengths, float], ...]

    @property
    def best(self) -> RunLengths:
        """Return the mask with the highest confidence, or an empty mask if there is no prediction."""
        if self.predictions:
            return self.predictions[0][0]
        return encode_rle(np.zeros(self.truth["size"], np.uint8))


def score(truth: Path, predictions: Path) -> dict[str, Any]:
    """Compute the scores by protocol, and count the images without a prediction, which score as an empty mask.

    The protocol coco uses the original truth, counts an IoU above a threshold and computes COCO's AP over all
    candidates. The protocol acga_masks passes the truth through the letterbox of 512 and back as the authors' evaluator
    does, counts an IoU of the most confident candidate that reaches a threshold, and computes "map" as the mean of the
    precisions. Raises `BadMasks`.
    """
    images = _truths(truth)
    found = _predictions(predictions, images)
    samples = [Candidates(mask, tuple(found.get(image, ()))) for image, mask in images.items()]
    return {
        "protocols": {"coco": asdict(coco_of(samples)), "acga_masks": asdict(acga_of(samples))},
        "images": len(samples),
        "without_prediction": sum(not sample.predictions for sample in samples),
    }


def coco_of(samples: Sequence[Candidates]) -> Scores:
    """Compute the scores of the protocol coco."""
    overlaps = [overlap(sample.best, sample.truth) for sample in samples]
    ious = ious_of(overlaps)
    return Scores(
        mean_iou=float(ious.mean()),
        overall_iou=overall_iou(overlaps),
        map=ranked_precision([sample.predictions for sample in samples], [sample.truth for sample in samples]),
        precision={str(threshold): float(np.mean(ious > threshold)) for threshold in THRESHOLDS},
        samples=len(samples),
    )


def acga_of(samples: Sequence[Candidates]) -> Scores:
    """Compute the scores of the authors' evaluator without its threshold, since masks are thresholded already."""
    overlaps = []
    for sample in samples:
        height, width = sample.truth["size"]
        box = Letterbox(height, width, SQUARE)
        restored = encode_rle(acga_truth(box.mask(decode_rle(sample.truth)), box))
        overlaps.append(overlap(sample.best, restored))
    return acga_scores(overlaps)


def _truths(path: Path) -> dict[Any, RunLengths]:
    """Read the true mask of each image, in the order of the annotations.

    Raises `BadMasks` unless there is exactly one annotation per image.
    """
    document = _read(path)
    if not isinstance(document, dict) or not {"images", "annotations"} <= document.keys():
        raise BadMasks(f"{path}: expected COCO's form, an object with images and annotations.")
    sizes = {image["id"]: (image["height"], image["width"]) for image in document["images"]}
    truths: dict[Any, RunLengths] = {}
    for annotation in document["annotations"]:
        image = annotation["image_id"]
        if image not in sizes:
            raise BadMasks(f"{path}: an annotation of image {image!r}, which is not among the images.")
        if image in truths:
            raise BadMasks(f"{path}: image {image!r} has two annotations; expected one, that of its sentence's actor.")
        truths[image] = _mask(path, image, annotation.get("segmentation"), sizes[image])
    if len(truths) != len(sizes) or not truths:
        raise BadMasks(f"{path}: {len(truths)} annotations of {len(sizes)} images; expected one of each.")
    return truths


def _predictions(path: Path, truths: Mapping[Any, RunLengths]) -> dict[Any, list[tuple[RunLengths, float]]]:
    """Read the predictions of each image, in descending order of confidence; equal confidences keep their order."""
    document = _read(path)
    if not isinstance(document, list):
        raise BadMasks(f"{path}: expected COCO's form of results, a list of image_id, segmentation and score.")
    found: dict[Any, list[tuple[RunLengths, float]]] = {}
    for number, result in enumerate(document):
        if not isinstance(result, dict) or not {"image_id", "segmentation", "score"} <= result.keys():
            raise BadMasks(f"{path}: result {number} lacks image_id, segmentation or score.")
        image = result["image_id"]
        if image not in truths:
            raise BadMasks(f"{path}: result {number} is of image {image!r}, which the truth does not have.")
        height, width = truths[image]["size"]
        mask = _mask(path, image, result["segmentation"], (height, width))
        found.setdefault(image, []).append((mask, float(result["score"])))
    return {image: sorted(candidates, key=lambda one: -one[1]) for image, candidates in found.items()}


def _mask(path: Path, image: Any, segmentation: Any, size: tuple[int, int]) -> RunLengths:
    """Convert COCO's compressed or uncompressed run-length encoding to compressed run lengths."""
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise BadMasks(f"{path}: the mask of image {image!r} is no run-length encoding (size, counts).")
    if tuple(segmentation["size"]) != tuple(size):
        raise BadMasks(
            f"{path}: the mask of image {image!r} has {tuple(segmentation['size'])} pixels, expected {tuple(size)}."
        )
    if isinstance(segmentation["counts"], list):
        encoded = coco.frPyObjects(segmentation, *size)
        return {"size": list(size), "counts": encoded["counts"].decode("ascii")}
    return {"size": list(size), "counts": segmentation["counts"]}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise BadMasks(f"{path}: cannot be read ({error.strerror}); give the path of a JSON file.") from None
    except ValueError as error:
        raise BadMasks(f"{path}: not JSON ({error}).") from None
