"""The stage Metrics, which computes the scores of each protocol.

metrics.json   protocols: acga and coco over all samples; and, over the samples whose clip shows several actors with
               different sentences, acga_several, acga_swapped (each mask is compared with the prediction for the next
               actor's sentence) and every_actor (the union of all actors is the prediction); each with 95 % intervals
               over videos
               absent: the protocols that cannot be computed from the data, with the reason
               groups: acga by the attribute that identifies the actor, if the data set provides it
               samples: the IoU of each sample under acga
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from data.masks import RunLengths
from extractors.shards.sample_table import Sample, inputs_of_samples
from models.evaluation.bootstrap import intervals
from models.evaluation.metrics import Overlap, Scores, acga_scores, coco_scores, overlap
from pipeline.sections.results.metrics import MetricsSection
from pipeline.sections.section import Section
from pipeline.stages.support.job import Job
from pipeline.stages.support.predicted import Prediction, read_predictions
from pipeline.stages.support.true_masks import Truth

NO_ORIGINALS = "the features were imported: masks are known in letterboxed form alone, not as they were drawn"

ProtocolScores = dict[str, object]
"""The scores of one protocol and their intervals, as metrics.json has them."""


class Settings(Section):
    """The sections that this stage reads."""

    metrics: MetricsSection


def build(job: Job[Settings, None]) -> None:
    """Score the stored predictions, without running the network again, and write metrics.json."""
    samples = inputs_of_samples(job.inputs)
    predictions = read_predictions(job.folder("Predictions"))
    truth, section = Truth(job.inputs["Masks"]), job.settings.metrics
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


def of_acga(section: MetricsSection, overlaps: Sequence[Overlap], samples: Sequence[Sample]) -> ProtocolScores:
    """Compute the scores and intervals of the protocol acga."""
    return _with_intervals(
        acga_scores(overlaps), intervals(overlaps, None, _videos(samples), section.resamples, section.seed)
    )


def of_coco(
    section: MetricsSection,
    predictions: Sequence[Prediction],
    truths: Sequence[RunLengths],
    samples: Sequence[Sample],
) -> ProtocolScores:
    """Compute the scores and intervals of the protocol coco."""
    masks = [prediction["coco"] for prediction in predictions]
    confidences = [prediction["confidence"] for prediction in predictions]
    overlaps = [overlap(mask, truth) for mask, truth in zip(masks, truths, strict=True)]
    found = intervals(overlaps, confidences, _videos(samples), section.resamples, section.seed)
    return _with_intervals(coco_scores(masks, confidences, truths), found)


def _with_intervals(scores: Scores, found: Mapping[str, tuple[float, float]]) -> ProtocolScores:
    return asdict(scores) | {"intervals": {name: list(bounds) for name, bounds in found.items()}}


def _videos(samples: Sequence[Sample]) -> list[str]:
    return [sample["clip"].rpartition("/")[0] for sample in samples]


def several_actors(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Return each sample of a clip with several actors, paired with the sample whose sentence replaces its own.

    The actors of a clip are shifted cyclically in the order of their first samples; the replacement is the first
    sentence of the next actor. Clips in which all actors have the same sentence are left out.
    """
    clips: dict[str, dict[str, list[Sample]]] = {}
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


def _by_group(samples: Sequence[Sample], overlaps: Mapping[str, Overlap]) -> dict[str, list[Overlap]]:
    groups: dict[str, list[Overlap]] = {}
    for sample in samples:
        if sample["group"]:
            groups.setdefault(sample["group"], []).append(overlaps[sample["id"]])
    return dict(sorted(groups.items()))
