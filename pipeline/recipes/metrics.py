"""Metrics: every figure under its protocol's name.

metrics.json   protocols: acga and coco over all samples; and, over the samples whose clip shows several actors with
               different sentences, acga_several, acga_swapped (each mask against the prediction for the next actor's
               sentence) and every_actor (the union of all actors as the prediction)
               groups: acga by what identifies the actor, where the data set says it
               samples: the IoU of each sample under acga
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from pycocotools import mask as rle

from data.letterbox import Letterbox
from data.masks import encode_rle
from extractors.shards import ShardReader
from models.metrics import Overlap, acga_scores, acga_truth, coco_scores, overlap
from pipeline.recipes.job import Job

RunLengths = Mapping[str, Any]


def build(job: Job) -> None:
    """Score the stored predictions; the network does not run again."""
    samples = json.loads((job.folder("Samples") / "samples.json").read_bytes())["samples"]
    predictions = json.loads((job.folder("Predictions") / "predictions.json").read_bytes())["samples"]
    truth = Truth(job)
    overlaps = {
        sample["id"]: overlap(prediction["acga"], truth.restored(sample))
        for sample, prediction in zip(samples, predictions, strict=True)
    }
    protocols = {
        "acga": acga_scores(list(overlaps.values())),
        "coco": coco_scores(
            [prediction["coco"] for prediction in predictions],
            [prediction["confidence"] for prediction in predictions],
            [truth.original(sample) for sample in samples],
        ),
    }
    several = several_actors(samples)
    if several:
        masks = {prediction["id"]: prediction["acga"] for prediction in predictions}
        swapped = [overlap(masks[other["id"]], truth.restored(sample)) for sample, other in several]
        union = [overlap(truth.every_actor(sample), truth.restored(sample)) for sample, _ in several]
        protocols["acga_several"] = acga_scores([overlaps[sample["id"]] for sample, _ in several])
        protocols["acga_swapped"] = acga_scores(swapped)
        protocols["every_actor"] = acga_scores(union)
    document = {
        "protocols": {name: asdict(scores) for name, scores in protocols.items()},
        "groups": {group: asdict(acga_scores(found)) for group, found in _by_group(samples, overlaps).items()},
        "samples": {name: found.iou for name, found in overlaps.items()},
    }
    (job.out / "metrics.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


def several_actors(samples: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each sample of a clip with several actors, with the one whose sentence takes its place.

    The actors of a clip are shifted cyclically in the order of their first samples; the first sentence of the next
    actor stands in. Clips in which all actors have the same sentence are left out.
    """
    clips: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for sample in samples:
        if sample["shown"]:
            clips.setdefault(sample["clip"], {}).setdefault(sample["mask"], []).append(sample)
    pairs = []
    for actors in clips.values():
        if len(actors) < 2 or len({sample["text"] for found in actors.values() for sample in found}) < 2:
            continue
        ordered = list(actors.values())
        for position, found in enumerate(ordered):
            stand_in = ordered[(position + 1) % len(ordered)][0]
            pairs += [(sample, stand_in) for sample in found]
    return pairs


class Truth:
    """True masks of the test set, read as they are asked for."""

    def __init__(self, job: Job) -> None:
        folders = job.inputs["Masks"]
        self._shards = [ShardReader(folder / "masks.h5") for folder in folders]
        self._rows = [{name: row for row, name in enumerate(shard.ids)} for shard in self._shards]
        self._frames: dict[str, Any] = {}
        for folder in folders:
            self._frames |= json.loads((folder / "truth.json").read_bytes())["clips"]

    def restored(self, sample: Mapping[str, Any]) -> RunLengths:
        """Protocol acga: the letterboxed mask, mapped back to the frame."""
        frame, masks = self._frames[sample["clip"]], self._shards[sample["shard"]]
        if not sample["shown"]:
            return _empty(frame)
        large = masks.read("large", self._rows[sample["shard"]][sample["mask"]])
        return encode_rle(acga_truth(large, Letterbox(frame["height"], frame["width"], large.shape[0])))

    def original(self, sample: Mapping[str, Any]) -> RunLengths:
        """Protocol coco: the mask as it was drawn."""
        frame, instance = self._frames[sample["clip"]], sample["mask"].rpartition("/")[2]
        return frame["instances"][instance]["mask"] if sample["shown"] else _empty(frame)

    def every_actor(self, sample: Mapping[str, Any]) -> RunLengths:
        """The union of all instances of the sample's frame."""
        instances = self._frames[sample["clip"]]["instances"].values()
        return rle.merge([instance["mask"] for instance in instances], intersect=False)


def _empty(frame: Mapping[str, Any]) -> RunLengths:
    return encode_rle(np.zeros((frame["height"], frame["width"]), np.uint8))


def _by_group(samples: Sequence[Mapping[str, Any]], overlaps: Mapping[str, Overlap]) -> dict[str, list[Overlap]]:
    groups: dict[str, list[Overlap]] = {}
    for sample in samples:
        if sample["group"]:
            groups.setdefault(sample["group"], []).append(overlaps[sample["id"]])
    return dict(sorted(groups.items()))
