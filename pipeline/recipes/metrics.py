"""Metrics: every figure under its protocol's name.

metrics.json   protocols: acga and coco over all samples; and, over the samples whose clip shows several actors with
               different sentences, acga_several, acga_swapped (each mask against the prediction for the next actor's
               sentence) and every_actor (the union of all actors as the prediction); each with 95 % intervals over
               videos. absent: the protocols that the data cannot give, with the reason
               groups: acga by what identifies the actor, where the data set says it
               samples: the IoU of each sample under acga
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from models.bootstrap import intervals
from models.metrics import Overlap, RunLengths, Scores, acga_scores, coco_scores, overlap
from pipeline.recipes.job import Job
from pipeline.recipes.truth import Truth

NO_ORIGINALS = "the features were imported: masks are known in letterboxed form alone, not as they were drawn"

Samples = Sequence[Mapping[str, Any]]


def build(job: Job) -> None:
    """Score the stored predictions; the network does not run again."""
    samples = json.loads((job.folder("Samples") / "samples.json").read_bytes())["samples"]
    predictions = json.loads((job.folder("Predictions") / "predictions.json").read_bytes())["samples"]
    truth, section = Truth(job), job.sections["metrics"]
    overlaps = {
        sample["id"]: overlap(prediction["acga"], truth.restored(sample))
        for sample, prediction in zip(samples, predictions, strict=True)
    }
    protocols = {"acga": of_acga(section, list(overlaps.values()), samples)}
    originals = [truth.original(sample) for sample in samples]
    known = [mask for mask in originals if mask is not None]
    absent = {} if len(known) == len(samples) else {"coco": NO_ORIGINALS}
    if not absent:
        protocols["coco"] = of_coco(section, predictions, known, samples)
    several = several_actors(samples)
    if several:
        masks = {prediction["id"]: prediction["acga"] for prediction in predictions}
        which = [sample for sample, _ in several]
        swapped = [overlap(masks[other["id"]], truth.restored(sample)) for sample, other in several]
        union = [overlap(truth.every_actor(sample), truth.restored(sample)) for sample in which]
        protocols["acga_several"] = of_acga(section, [overlaps[sample["id"]] for sample in which], which)
        protocols["acga_swapped"] = of_acga(section, swapped, which)
        protocols["every_actor"] = of_acga(section, union, which)
    document = {
        "protocols": protocols,
        "absent": absent,
        "groups": {group: asdict(acga_scores(found)) for group, found in _by_group(samples, overlaps).items()},
        "samples": {name: found.iou for name, found in overlaps.items()},
    }
    (job.out / "metrics.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


def of_acga(section: Mapping[str, Any], overlaps: Sequence[Overlap], samples: Samples) -> dict[str, Any]:
    """Scores and intervals of protocol acga."""
    return _with_intervals(acga_scores(overlaps), intervals(overlaps, None, _videos(samples), **section))


def of_coco(
    section: Mapping[str, Any], predictions: Samples, truths: Sequence[RunLengths], samples: Samples
) -> dict[str, Any]:
    """Scores and intervals of protocol coco."""
    masks = [prediction["coco"] for prediction in predictions]
    confidences = [prediction["confidence"] for prediction in predictions]
    overlaps = [overlap(mask, truth) for mask, truth in zip(masks, truths, strict=True)]
    found = intervals(overlaps, confidences, _videos(samples), **section)
    return _with_intervals(coco_scores(masks, confidences, truths), found)


def _with_intervals(scores: Scores, found: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    return asdict(scores) | {"intervals": {name: list(bounds) for name, bounds in found.items()}}


def _videos(samples: Samples) -> list[str]:
    return [sample["clip"].rpartition("/")[0] for sample in samples]


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


def _by_group(samples: Sequence[Mapping[str, Any]], overlaps: Mapping[str, Overlap]) -> dict[str, list[Overlap]]:
    groups: dict[str, list[Overlap]] = {}
    for sample in samples:
        if sample["group"]:
            groups.setdefault(sample["group"], []).append(overlaps[sample["id"]])
    return dict(sorted(groups.items()))
