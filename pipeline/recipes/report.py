"""Report: one self-contained page, and the metrics beside it.

report.html    needs no network; see `pipeline.recipes.report_page`
metrics.json   as the Metrics stage wrote it
seeds.json     with report.seeds above 1: the mean IoU of every seed's network, by protocol
"""

from __future__ import annotations

import base64
import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import jinja2
import numpy as np

from data.defects import RULES
from data.letterbox import Letterbox
from data.masks import decode_rle
from extractors.shards import ShardReader
from models.order import shuffled
from pipeline.recipes.job import Job
from pipeline.recipes.report_page import TEMPLATE
from pipeline.recipes.truth import Truth

PREDICTED = (255, 90, 54)  # RGB
TRUE = (22, 197, 255)
GREY = 90  # where there is no picture
PUBLISHED = (  # P@0.5 to P@0.9, mAP, overall IoU, mean IoU; ACGA's README and paper
    ("A2D, ACGA (README)", (56.7, 47.6, 33.8, 16.9, 1.9, 28.5, 61.3, 49.8)),
    ("A2D, ACGA (paper)", (55.7, 45.9, 31.9, 16.0, 2.0, 27.4, 60.1, 49.0)),
    ("A2D, Gavrilyuk et al.", (47.5, 34.7, 21.1, 8.0, 0.2, 19.8, 53.6, 42.1)),
    ("A2D, Li et al.", (38.7, 29.0, 17.5, 6.6, 0.1, 16.3, 51.5, 35.4)),
    ("A2D, Hu et al.", (34.8, 23.6, 13.3, 3.3, 0.1, 13.2, 47.4, 35.0)),
    ("J-HMDB, ACGA (README)", (75.4, 58.5, 29.4, 3.6, 0.0, 29.3, 57.8, 58.8)),
    ("J-HMDB, ACGA (paper)", (75.6, 56.4, 28.7, 3.4, 0.0, 28.9, 57.6, 58.4)),
    ("J-HMDB, Gavrilyuk et al.", (69.9, 46.0, 17.3, 1.4, 0.0, 23.3, 54.1, 54.2)),
    ("J-HMDB, Li et al.", (57.8, 33.5, 10.3, 0.6, 0.0, 17.3, 52.9, 49.1)),
    ("J-HMDB, Hu et al.", (63.3, 35.0, 8.5, 0.2, 0.0, 17.8, 54.6, 52.8)),
)


def build(job: Job) -> None:
    """Collect what the artifacts say and render the page; nothing is measured here."""
    own, *_ = job.inputs["Metrics"]
    metrics = json.loads((own / "metrics.json").read_bytes())
    seeds = _seeds(job)
    samples = json.loads((job.folder("Samples") / "samples.json").read_bytes())
    networks = _networks(job)
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(TEMPLATE)
    html = page.render(
        test={"samples": len(samples["samples"]), "clips": len({sample["clip"] for sample in samples["samples"]})},
        model="; ".join(network["text"] for network in networks),
        seeded=any(network["trunk"] == "seeded" for network in networks),
        protocols=metrics["protocols"],
        absent=metrics["absent"],
        seeds=seeds,
        several="acga_several" in metrics["protocols"],
        groups=metrics["groups"],
        published=PUBLISHED,
        curves=[_curves(network["epochs"]) for network in networks if network["epochs"]],
        figures=_figures(job, samples["samples"], metrics["samples"]),
        rules=_rules(job, samples["rules"]),
        quarantined=samples["quarantined"],
        text=json.loads((job.folder("TextFeatures") / "text.json").read_bytes()),
        percent=lambda value: f"{100 * value:.1f}",
    )
    (job.out / "report.html").write_text(html, encoding="utf-8")
    shutil.copyfile(own / "metrics.json", job.out / "metrics.json")
    if seeds:
        (job.out / "seeds.json").write_text(json.dumps(seeds, indent=1), encoding="utf-8")


def _seeds(job: Job) -> dict[str, dict[str, Any]]:
    """Mean IoU of each protocol over the seeds: each, their mean and sample standard deviation; none of one seed."""
    found = [json.loads((folder / "metrics.json").read_bytes())["protocols"] for folder in job.inputs["Metrics"]]
    if len(found) < 2:
        return {}
    each = {name: [protocols[name]["mean_iou"] for protocols in found] for name in found[0]}
    return {
        name: {"each": values, "mean": statistics.mean(values), "deviation": statistics.stdev(values)}
        for name, values in each.items()
    }


def _networks(job: Job) -> list[dict[str, Any]]:
    """What is known of each stream's network."""
    found = []
    for stream in ("rgb", "flow"):
        for folder in job.inputs.get(f"TrainedModel.{stream}", ()):
            training = json.loads((folder / "training.json").read_bytes())
            count = len(training["epochs"])
            origin = f"trained for {count} epochs" if training["origin"] == "trained" else "from a checkpoint"
            found.append(training | {"text": f"{stream} network {origin}, trunk weights: {training['trunk']}"})
    return found


def _curves(epochs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Polylines of the losses in a box of 570 x 190 at (50, 25)."""
    top = max(epoch["total"] for epoch in epochs)
    colours = {"total": "#1c2430", "small": "#d1495b", "medium": "#2e86ab", "large": "#3a7d44"}

    def y(value: float) -> float:
        return round(215 - 190 * value / top, 1)

    def points(name: str) -> str:
        step = 570 / max(1, len(epochs) - 1)
        return " ".join(f"{50 + step * position:.1f},{y(epoch[name])}" for position, epoch in enumerate(epochs))

    return {
        "epochs": len(epochs),
        "ticks": [{"y": y(top * part / 4), "label": f"{top * part / 4:.2f}"} for part in range(5)],
        "lines": [{"name": name, "colour": colour, "points": points(name)} for name, colour in colours.items()],
    }


def _figures(job: Job, samples: Sequence[Mapping[str, Any]], ious: Mapping[str, float]) -> list[dict[str, Any]]:
    """Some samples: the labelled frame with the predicted mask filled and the true one outlined."""
    section = job.sections["report"]
    predictions = json.loads((job.folder("Predictions") / "predictions.json").read_bytes())["samples"]
    chosen = shuffled(len(samples), section["seed"])[: section["samples"]]
    figures, truth = [], Truth(job)
    for position in chosen:
        sample = samples[position]
        mask = decode_rle(dict(truth.original(sample) or truth.restored(sample)))
        picture = overlaid(_labelled_frame(job, sample), decode_rle(predictions[position]["acga"]), mask)
        encoded = cv2.imencode(".png", picture[:, :, ::-1])[1]
        image = base64.b64encode(encoded.tobytes()).decode("ascii")
        text = sample["text"] or f"sample {sample['id']}: sentence and frame are not in the imported folder"
        figures.append({"image": image, "text": text, "iou": ious[sample["id"]]})
    return figures


def _labelled_frame(job: Job, sample: Mapping[str, Any]) -> np.ndarray:
    """The letterboxed labelled frame (S, S, 3) of a sample; grey where there are no frames."""
    if "Frames" not in job.inputs:
        size = job.sections["frames"]["size"]
        return np.full((size, size, 3), GREY, np.uint8)
    frames = ShardReader(job.inputs["Frames"][sample["shard"]] / "frames.h5")
    clip = frames.read("frames", frames.ids.index(sample["clip"]))
    return clip[len(clip) // 2]


def overlaid(frame: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """A letterboxed frame (S, S, 3) without its padding, with two masks (H, W) of the frame's own size over it."""
    box = Letterbox(true.shape[0], true.shape[1], frame.shape[0])
    picture = frame[box.top : box.top + box.resized_height, box.left : box.left + box.resized_width].copy()
    scale = max(1, 256 // picture.shape[0])
    size = (picture.shape[1] * scale, picture.shape[0] * scale)
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)
    filled = cv2.resize(predicted, size, interpolation=cv2.INTER_NEAREST) > 0
    picture[filled] = (0.5 * picture[filled] + 0.5 * np.array(PREDICTED)).astype(np.uint8)
    outline, _ = cv2.findContours(
        cv2.resize(true, size, interpolation=cv2.INTER_NEAREST), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(picture, outline, -1, TRUE, 2)
    return picture


def _rules(job: Job, of_samples: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Hits of each rule in the train and the test set; those of test frames, masks and samples are known here, too."""
    listed = job.members["records"]["rules"]
    hits = {role: {rule: len(records) for rule, records in rules.items()} for role, rules in listed.items()}
    test = hits.setdefault("test", {})
    found = [json.loads((folder / "truth.json").read_bytes())["rules"] for folder in job.inputs["Masks"]]
    found += [json.loads((folder / "ledger.json").read_bytes())["rules"] for folder in job.inputs.get("Frames", ())]
    for rules in [*found, of_samples]:
        for rule, records in rules.items():
            test[rule] = test.get(rule, 0) + len(records)
    counted = {rule: (hits.get("train", {}).get(rule, 0), test.get(rule, 0)) for rule in RULES}
    return {
        rule: {"detects": RULES[rule].detects, "done": RULES[rule].done, "train": train, "test": test}
        for rule, (train, test) in counted.items()
        if train or test
    }
