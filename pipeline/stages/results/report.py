"""The stage Report, which writes one self-contained page and copies the metrics.

report.html    loads nothing from the network; see `pipeline.pages.report_page`
metrics.json   a copy of the file of the stage Metrics
seeds.json     if report.seeds is above 1: the mean IoU of every seed's network, by protocol
"""

from __future__ import annotations

import base64
import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from typing import TypedDict

import cv2
import numpy as np

from data.defects import RULES
from data.letterbox import Letterbox
from data.masks import decode_rle
from data.wording import counted
from extractors.shards.sample_table import Sample, read_sample_table
from extractors.shards.shard import ShardReader
from models.training.sampling import shuffled
from pipeline.pages.report_page import report_page
from pipeline.sections.dataset.frames import FrameSize
from pipeline.sections.results.report import ReportSection
from pipeline.sections.section import Section
from pipeline.stages.support.job import Job
from pipeline.stages.support.predicted import read_predictions
from pipeline.stages.support.true_masks import Truth
from pipeline.stages.support.truth import read_truth_table

PREDICTED = (255, 90, 54)  # RGB
TRUE = (22, 197, 255)
GREY = 90  # value of all pixels if the frame is not available
PUBLISHED = (  # P@0.5 to P@0.9, mAP, overall IoU, mean IoU; from ACGA's README and paper
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


class Settings(Section):
    """The sections that this stage reads."""

    frames: FrameSize
    report: ReportSection


class Records(TypedDict):
    """The records of each role to which a rule of `data.defects` applied: role -> rule -> records."""

    rules: dict[str, dict[str, list[str]]]


class SeedScores(TypedDict):
    """The mean IoU of each seed, and their mean and sample standard deviation."""

    each: list[float]
    mean: float
    deviation: float


class NetworkFacts(TypedDict):
    """The facts about a network: its losses by epoch, the origin of its trunk's weights, and a summary of both."""

    epochs: list[dict[str, float]]
    trunk: str
    text: str


class Figure(TypedDict):
    """A sample on the page: its image as PNG in base64, its sentence and its IoU."""

    image: str
    text: str
    iou: float


StageJob = Job[Settings, Records]


def build(job: StageJob) -> None:
    """Collect the results of the input artifacts and render the page; no scores are computed here."""
    own, *_ = job.inputs["Metrics"]
    metrics = json.loads((own / "metrics.json").read_bytes())
    seeds = _seeds(job)
    samples = read_sample_table(job.folder("Samples"))
    networks = _networks(job)
    html = report_page(
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
    )
    (job.out / "report.html").write_text(html, encoding="utf-8")
    shutil.copyfile(own / "metrics.json", job.out / "metrics.json")
    if seeds:
        (job.out / "seeds.json").write_text(json.dumps(seeds, indent=1), encoding="utf-8")


def _seeds(job: StageJob) -> dict[str, SeedScores]:
    """Return the mean IoU of each seed by protocol, with mean and sample standard deviation; empty for one seed."""
    found = [json.loads((folder / "metrics.json").read_bytes())["protocols"] for folder in job.inputs["Metrics"]]
    if len(found) < 2:
        return {}
    each = {name: [protocols[name]["mean_iou"] for protocols in found] for name in found[0]}
    return {
        name: {"each": values, "mean": statistics.mean(values), "deviation": statistics.stdev(values)}
        for name, values in each.items()
    }


def _networks(job: StageJob) -> list[NetworkFacts]:
    """Return the facts about each stream's network."""
    found: list[NetworkFacts] = []
    for stream in ("rgb", "flow"):
        for folder in job.inputs.get(f"TrainedModel.{stream}", ()):
            training = json.loads((folder / "training.json").read_bytes())
            count = len(training["epochs"])
            origin = (
                f"trained for {counted(count, 'epoch')}" if training["origin"] == "trained" else "from a checkpoint"
            )
            text = f"{stream} network {origin}, trunk weights: {training['weights']}"
            found.append({"epochs": training["epochs"], "trunk": training["trunk"], "text": text})
    return found


def _curves(epochs: Sequence[Mapping[str, float]]) -> dict[str, object]:
    """Return the polylines of the losses in a box of 570 x 190 px at (50, 25)."""
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


def _figures(job: StageJob, samples: Sequence[Sample], ious: Mapping[str, float]) -> list[Figure]:
    """Return some samples as labelled frames with the predicted mask filled and the true mask outlined."""
    section = job.settings.report
    predictions = read_predictions(job.folder("Predictions"))
    chosen = shuffled(len(samples), section.seed)[: section.samples]
    figures: list[Figure] = []
    truth = Truth(job.inputs["Masks"])
    for position in chosen:
        sample = samples[position]
        mask = decode_rle(truth.original(sample) or truth.restored(sample))
        picture = overlaid(_labelled_frame(job, sample), decode_rle(predictions[position]["acga"]), mask)
        encoded = cv2.imencode(".png", picture[:, :, ::-1])[1]
        image = base64.b64encode(encoded.tobytes()).decode("ascii")
        text = sample["text"] or f"sample {sample['id']}: sentence and frame are not in the imported folder"
        figures.append({"image": image, "text": text, "iou": ious[sample["id"]]})
    return figures


def _labelled_frame(job: StageJob, sample: Sample) -> np.ndarray:
    """Return the letterboxed labelled frame (S, S, 3) of a sample, or a grey image if frames are not available."""
    if "Frames" not in job.inputs:
        size = job.settings.frames.size
        return np.full((size, size, 3), GREY, np.uint8)
    frames = ShardReader(job.inputs["Frames"][sample["shard"]] / "frames.h5")
    clip = frames.read("frames", frames.ids.index(sample["clip"]))
    labelled: np.ndarray = clip[len(clip) // 2]
    return labelled


def overlaid(frame: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return a letterboxed frame (S, S, 3) without its padding, overlaid with two masks (H, W) of the original size."""
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


def _rules(job: StageJob, of_samples: Mapping[str, Sequence[str]]) -> dict[str, dict[str, object]]:
    """Count the records to which each rule applied, in the train and the test set.

    The counts of the test set also include those of its frames, masks and samples.
    """
    hits = {
        role: {rule: len(records) for rule, records in rules.items()} for role, rules in job.records["rules"].items()
    }
    test = hits.setdefault("test", {})
    found = [read_truth_table(folder)["rules"] for folder in job.inputs["Masks"]]
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
