"""I: the metrics computed again from the stored predictions by other code, and every number of the report's page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data.letterbox import Letterbox
from pipeline.audit import scores
from pipeline.audit.scores import Mask
from pipeline.audit.subject import Node, Subject
from pipeline.audit.verdicts import Check, check

TOLERANCE = 1e-9

Sample = Mapping[str, Any]


def results(subject: Subject) -> Check:
    """Whether the predictions give the metrics, and the metrics the page."""
    wanted = [*subject.of("Metrics", "Predictions", "Samples", "Masks", "Imported"), subject.report]
    absent = [node.name for node in wanted if node.manifest is None or node.place.evicted]
    if absent or not subject.of("Metrics") or not subject.of("Predictions"):
        return check("I", unknown=[f"{name} is not there" for name in absent] or ["there are no predictions to score"])
    try:
        return _checked(subject)
    except (KeyError, ValueError, OSError, IndexError, TypeError) as error:
        return check("I", [f"the stored predictions cannot be scored again ({type(error).__name__}: {error})"])


def _checked(subject: Subject) -> Check:
    metrics = next((node for node in subject.of("Metrics") if _is_own(subject, node)), subject.of("Metrics")[0])
    written = _document(metrics, "metrics.json")
    found, truth = recomputed(subject, metrics)
    wrong = [*_differences(found, written["protocols"])]
    copied = _document(subject.report, "metrics.json")
    if copied != written:
        wrong.append("the report's metrics.json is not that of Metrics")
    page = (subject.report.attempt / "report.html").read_text(encoding="utf-8")
    wrong += [*_of_page(page, written["protocols"])]
    unchecked = ["the 95 % intervals were not computed again"]
    if not truth:
        unchecked.append("protocol coco: the masks as drawn are not known")
    links = {f"{name}.{key}": metrics.place.key for name, values in found.items() for key in values}
    return check("I", wrong, unchecked=unchecked, facts={"recomputed": found, "numbers_from": links})


def _is_own(subject: Subject, node: Node) -> bool:
    """Whether a Metrics artifact is of the report's own seeds."""
    sections = subject.report.known["experiment"]["sections"]
    return all(sections[name] == values for name, values in node.known["experiment"]["sections"].items())


def _document(node: Node, name: str) -> Any:
    return json.loads((node.attempt / name).read_bytes())


def recomputed(subject: Subject, metrics: Node) -> tuple[dict[str, Any], bool]:
    """The protocols' scores, and whether the original masks are known."""
    from extractors.shards import ShardReader

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
    found = {"acga": scores.acga(list(overlaps.values()))}
    originals = [_original(sample, frames) for sample in samples]
    known = [mask for mask in originals if mask is not None]
    if len(known) == len(samples):
        masks = [scores.unpacked(each["coco"]) for each in predictions]
        of_coco = [scores.overlap(one, other) for one, other in zip(masks, known, strict=True)]
        found["coco"] = scores.coco(of_coco, [each["confidence"] for each in predictions])
    pairs = _several(samples)
    if pairs:
        found["acga_several"] = scores.acga([overlaps[sample["id"]] for sample, _ in pairs])
        found["acga_swapped"] = scores.acga(
            [scores.overlap(predicted[other["id"]], true[sample["id"]]) for sample, other in pairs]
        )
        union = [scores.overlap(_union(frames[sample["clip"]]), true[sample["id"]]) for sample, _ in pairs]
        found["every_actor"] = scores.acga(union)
    return found, "coco" in found


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
    return np.logical_or.reduce(masks)


def _several(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Samples of clips with several actors and different sentences, each with the next actor's first sample."""
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
    for name in [*found, *(name for name in written if name not in found)]:
        if name not in found or name not in written:
            yield f"protocol {name} is {'not in metrics.json' if name in found else 'not what the predictions give'}"
            continue
        for key, value in _flat(found[name]).items():
            said = _flat(written[name]).get(key)
            if said is None or abs(said - value) > TOLERANCE:
                yield f"{name} {key} is {said} in metrics.json; the predictions give {value}"


def _flat(values: Mapping[str, Any]) -> dict[str, float]:
    flat = {key: float(values[key]) for key in ("mean_iou", "overall_iou", "map", "samples")}
    return flat | {f"precision {at}": float(value) for at, value in values["precision"].items()}


def _of_page(page: str, protocols: Mapping[str, Any]) -> Iterator[str]:
    """Whether the page's table of scores says what metrics.json does."""
    rows = {}
    for row in re.findall(r'<tr class="ours">(.*?)</tr>', page, flags=re.DOTALL):
        cells = [cell.strip() for cell in row.split("<td>")[1:]]
        rows[cells[0]] = cells[1:]
    for name, values in protocols.items():
        numbers = [*values["precision"].values(), values["map"], values["overall_iou"], values["mean_iou"]]
        interval = " to ".join(f"{100 * bound:.1f}" for bound in values["intervals"]["mean_iou"])
        expected = [str(values["samples"]), *(f"{100 * value:.1f}" for value in numbers), interval]
        if rows.get(name) != expected:
            yield f"the page says {rows.get(name)} of {name}, not {expected}"
    for name in rows.keys() - protocols.keys():
        yield f"the page has scores of {name}, which metrics.json does not"
