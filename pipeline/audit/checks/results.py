"""Check I: the metrics, recomputed from the stored predictions by independent code, and the report page's numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data.letterbox import Letterbox
from pipeline.audit.checks import scores
from pipeline.audit.checks.report_numbers import printed
from pipeline.audit.checks.scores import Mask
from pipeline.audit.subject import Node, Subject
from pipeline.audit.verdicts import Check, check

TOLERANCE = 1e-9

Sample = Mapping[str, Any]


def results(subject: Subject) -> Check:
    """Check that the metrics follow from the predictions and the page's numbers from the metrics."""
    wanted = [*subject.of("Metrics", "Predictions", "Samples", "Masks", "Imported"), subject.report]
    absent = [node.name for node in wanted if node.manifest is None or node.place.evicted]
    if absent or not subject.of("Metrics") or not subject.of("Predictions"):
        return check("I", unknown=[f"{name} is not there" for name in absent] or ["there are no predictions to score"])
    try:
        return _checked(subject)
    except (KeyError, ValueError, OSError, IndexError, TypeError) as error:
        return check("I", [f"the stored predictions cannot be scored again ({type(error).__name__}: {error})"])


def _checked(subject: Subject) -> Check:
    wrong: list[str] = []
    links: dict[str, str] = {}
    unchecked = ["the page's pictures and curves"]
    own = next((node for node in subject.of("Metrics") if _is_own(subject, node)), subject.of("Metrics")[0])
    for node in subject.of("Metrics"):
        written = _document(node, "metrics.json")
        of_seed = "" if node is own else f" (seed {node.known['experiment']['sections']['model']['seed']})"
        found = recomputed(subject, node)
        wrong += [f"{text}{of_seed}" for text in _differences(found, written)]
        if node is own:
            facts = {"recomputed": found["protocols"]}
            links = {f"{name}.{key}": node.place.key for name, of in found["protocols"].items() for key in of}
            unchecked += [] if "coco" in found["protocols"] else ["protocol coco: the masks as drawn are not known"]
    metrics = _document(own, "metrics.json")
    if _document(subject.report, "metrics.json") != metrics:
        wrong.append("the report's metrics.json is not that of Metrics")
    seeds = _seeds(subject)
    wrong += _of_seeds(subject, seeds)
    page = (subject.report.attempt / "report.html").read_text(encoding="utf-8")
    wrong += printed(page, metrics, seeds)
    return check("I", wrong, unchecked=unchecked, facts={**facts, "numbers_from": links})


def _seeds(subject: Subject) -> dict[str, Any]:
    path = subject.report.attempt / "seeds.json"
    return json.loads(path.read_bytes()) if path.exists() else {}


def _of_seeds(subject: Subject, seeds: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between seeds.json and the networks' metrics.

    Seeds with equal predictions share one metrics artifact.
    """
    known = {node.place.key: _document(node, "metrics.json")["protocols"] for node in subject.of("Metrics")}
    each = [known[key] for stage, _, key in subject.report.known["from"] if stage == "Metrics"]
    if len(each) > 1 and not seeds:
        yield "the report is of several seeds, but has no seeds.json"
    for name, found in seeds.items():
        values = np.array([protocols[name]["mean_iou"] for protocols in each])
        expected = [*values, values.mean(), values.std(ddof=1)]
        said = [*found["each"], found["mean"], found["deviation"]]
        if len(said) != len(expected) or not np.allclose(said, expected, rtol=0, atol=TOLERANCE):
            yield f"seeds.json says {said} of {name}; the metrics give {expected}"


def _is_own(subject: Subject, node: Node) -> bool:
    """Return whether a Metrics artifact belongs to the report's own seed."""
    sections = subject.report.known["experiment"]["sections"]
    return all(sections[name] == values for name, values in node.known["experiment"]["sections"].items())


def _document(node: Node, name: str) -> Any:
    return json.loads((node.attempt / name).read_bytes())


def recomputed(subject: Subject, metrics: Node) -> dict[str, Any]:
    """Recompute the content of metrics.json from the stored predictions.

    The protocol coco is left out if the original masks are not known. Raises ValueError if the predictions do not match
    the samples.
    """
    from extractors.shards.shard import ShardReader

    behind = {(stage, key) for stage, _, key in metrics.known["from"]}
    used = [node for node in subject.whole if (node.place.stage, node.place.key) in behind]
    (predictions,) = [
        _document(node, "predictions.json")["samples"] for node in used if node.place.stage == "Predictions"
    ]
    samples = next(
        _document(node, "samples.json")["samples"] for node in used if node.place.stage in ("Samples", "Imported")
    )
    shards = [node for node in used if node.place.stage in ("Masks", "Imported")]
    frames: dict[str, Any] = {}
    large: dict[str, Mask] = {}
    for node in shards:
        frames |= _document(node, "truth.json")["clips"]
        reader = ShardReader(node.attempt / "masks.h5")
        large |= {name: reader.read("large", row) for row, name in enumerate(reader.ids)}
        reader.close()
    by_id = {prediction["id"]: prediction for prediction in predictions}
    if list(by_id) != [sample["id"] for sample in samples]:
        raise ValueError("the predictions are not those of the samples, in their order")
    true = {sample["id"]: _restored(sample, frames, large) for sample in samples}
    predicted = {name: scores.unpacked(each["acga"]) for name, each in by_id.items()}
    overlaps = {name: scores.overlap(predicted[name], true[name]) for name in by_id}
    section = metrics.known["experiment"]["sections"]["metrics"]

    def of_acga(found: Sequence[tuple[int, int]], which: Sequence[Sample]) -> dict[str, Any]:
        return scores.acga(found) | {"intervals": scores.intervals(found, None, _videos(which), **section)}

    protocols = {"acga": of_acga(list(overlaps.values()), samples)}
    originals = [_original(sample, frames) for sample in samples]
    known = [mask for mask in originals if mask is not None]
    if len(known) == len(samples):
        masks = [scores.unpacked(each["coco"]) for each in predictions]
        of_coco = [scores.overlap(one, other) for one, other in zip(masks, known, strict=True)]
        confidences = [each["confidence"] for each in predictions]
        of_draws = scores.intervals(of_coco, confidences, _videos(samples), **section)
        protocols["coco"] = scores.coco(of_coco, confidences) | {"intervals": of_draws}
    pairs = _several(samples)
    if pairs:
        which = [sample for sample, _ in pairs]
        swapped = [scores.overlap(predicted[other["id"]], true[sample["id"]]) for sample, other in pairs]
        union = [scores.overlap(_union(frames[sample["clip"]]), true[sample["id"]]) for sample in which]
        protocols["acga_several"] = of_acga([overlaps[sample["id"]] for sample in which], which)
        protocols["acga_swapped"] = of_acga(swapped, which)
        protocols["every_actor"] = of_acga(union, which)
    groups = {
        group: scores.acga([overlaps[sample["id"]] for sample in samples if sample["group"] == group])
        for group in sorted({sample["group"] for sample in samples} - {"", None})
    }
    ious = {name: scores.iou(found) for name, found in overlaps.items()}
    return {"protocols": protocols, "groups": groups, "samples": ious}


def _videos(samples: Sequence[Sample]) -> list[str]:
    return [sample["clip"].rpartition("/")[0] for sample in samples]


def _restored(sample: Sample, frames: Mapping[str, Any], large: Mapping[str, np.ndarray]) -> Mask:
    frame = frames[sample["clip"]]
    if not sample["shown"]:
        return np.zeros((frame["height"], frame["width"]), bool)
    mask = large[sample["mask"]]
    return Letterbox(frame["height"], frame["width"], mask.shape[0]).restore(mask).astype(bool)


def _original(sample: Sample, frames: Mapping[str, Any]) -> Mask | None:
    frame = frames[sample["clip"]]
    if not sample["shown"]:
        return np.zeros((frame["height"], frame["width"]), bool)
    encoded = frame["instances"][sample["mask"].rpartition("/")[2]]["mask"]
    return None if encoded is None else scores.unpacked(encoded)


def _union(frame: Mapping[str, Any]) -> Mask:
    masks = [scores.unpacked(instance["mask"]) for instance in frame["instances"].values()]
    union: Mask = np.logical_or.reduce(masks)
    return union


def _several(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Return the samples of clips with several actors and different sentences, each paired with the first sample of the
    next actor."""
    found = []
    for clip in dict.fromkeys(sample["clip"] for sample in samples):
        shown = [sample for sample in samples if sample["clip"] == clip and sample["shown"]]
        actors = list(dict.fromkeys(sample["mask"] for sample in shown))
        if len(actors) < 2 or len({sample["text"] for sample in shown}) < 2:
            continue
        firsts = {actor: next(sample for sample in shown if sample["mask"] == actor) for actor in actors}
        for place, actor in enumerate(actors):
            other = firsts[actors[(place + 1) % len(actors)]]
            found += [(sample, other) for sample in shown if sample["mask"] == actor]
    return found


def _differences(found: Mapping[str, Any], written: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between the recomputed metrics and metrics.json."""
    for about in ("protocols", "groups"):
        of_found, of_written = found[about], written[about]
        for name in [*of_found, *(name for name in of_written if name not in of_found)]:
            if name not in of_found or name not in of_written:
                place = "not in metrics.json" if name in of_found else "not what the predictions give"
                yield f"{about[:-1]} {name} is {place}"
            else:
                yield from _numbers(name, _flat(of_found[name]), _flat(of_written[name]))
    yield from _numbers("IoU of sample", found["samples"], written["samples"])


def _numbers(name: str, found: Mapping[str, float], written: Mapping[str, float]) -> Iterator[str]:
    for key in [*found, *(key for key in written if key not in found)]:
        value, said = found.get(key), written.get(key)
        if value is None or said is None or not abs(said - value) <= TOLERANCE:
            yield f"{name} {key} is {said} in metrics.json; the predictions give {value}"


def _flat(values: Mapping[str, Any]) -> dict[str, float]:
    """Return every number of a protocol's scores by name."""
    bounds = {
        f"{key}, {end} of 95 %": float(value)
        for key, interval in values.get("intervals", {}).items()
        for end, value in zip(("lower end", "upper end"), interval, strict=True)
    }
    return scores.flat(values) | {"samples": float(values["samples"])} | bounds
