"""Scores of given masks, anybody's, under both protocols: truth and predictions are files in COCO's formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from data.letterbox import Letterbox
from data.masks import decode_rle, encode_rle
from models.metrics import PRECISION_THRESHOLDS as THRESHOLDS
from models.metrics import Scores, acga_scores, acga_truth, ious_of, overall_iou, overlap, ranked_precision

SQUARE = 512  # of the authors' evaluator, through which its truth goes

RunLengths = Mapping[str, Any]


class BadMasks(ValueError):
    """A file of masks that is not of COCO's form, or that does not fit the other one."""


@dataclass(frozen=True)
class Candidates:
    """The true mask of one image and what was predicted for it, with confidences, the surest first."""

    truth: RunLengths
    predictions: tuple[tuple[RunLengths, float], ...]

    @property
    def best(self) -> RunLengths:
        """The surest prediction, an empty mask where there is none."""
        if self.predictions:
            return self.predictions[0][0]
        return encode_rle(np.zeros(self.truth["size"], np.uint8))


def score(truth: Path, predictions: Path) -> dict[str, Any]:
    """Scores by protocol, and how many images have no prediction: those count as predicted empty.

    coco: original truth, IoU above a threshold, COCO's AP over all candidates. acga_masks: truth through the letterbox
    of 512 and back as in the authors' evaluator, IoU of the surest candidate that reaches a threshold, "map" as the
    mean of precisions. Raises BadMasks.
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
    """The scores of protocol coco."""
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
    """The scores of the authors' evaluator but for its threshold, which masks have behind them."""
    overlaps = []
    for sample in samples:
        height, width = sample.truth["size"]
        box = Letterbox(height, width, SQUARE)
        restored = encode_rle(acga_truth(box.mask(decode_rle(dict(sample.truth))), box))
        overlaps.append(overlap(sample.best, restored))
    return acga_scores(overlaps)


def _truths(path: Path) -> dict[Any, RunLengths]:
    """The one true mask of each image, in the order of the annotations."""
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
    """What is predicted for each image, the surest first; equal confidences keep their order."""
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
        mask = _mask(path, image, result["segmentation"], tuple(truths[image]["size"]))
        found.setdefault(image, []).append((mask, float(result["score"])))
    return {image: sorted(candidates, key=lambda one: -one[1]) for image, candidates in found.items()}


def _mask(path: Path, image: Any, segmentation: Any, size: tuple[int, int]) -> RunLengths:
    """Compressed run lengths, from COCO's compressed or plain ones."""
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise BadMasks(f"{path}: the mask of image {image!r} is no run-length encoding (size, counts).")
    if tuple(segmentation["size"]) != tuple(size):
        raise BadMasks(
            f"{path}: the mask of image {image!r} has {tuple(segmentation['size'])} pixels, expected {tuple(size)}."
        )
    if isinstance(segmentation["counts"], list):
        encoded = coco.frPyObjects(segmentation, *size)
        return {"size": list(size), "counts": encoded["counts"].decode("ascii")}
    return segmentation


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise BadMasks(f"{path}: cannot be read ({error.strerror}); give the path of a JSON file.") from None
    except ValueError as error:
        raise BadMasks(f"{path}: not JSON ({error}).") from None
