"""A program that rebuilds one artifact: it reads an order from standard input and writes the result to standard output.

    python -m pipeline.audit.checks.rebuilding < order.json

The order names a store that contains only the inputs, so that no existing result can be reused.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

from data.wording import counted
from pipeline.audit.subject import BY_NAME, Node, task_parameters
from pipeline.engine.build import described_files, implementation_of, job_of
from pipeline.engine.stage import Stage
from pipeline.stages.support.job import Job
from pipeline.stages.support.units import Units
from pipeline.store.artifact import Artifact
from pipeline.store.artifact_diff import of_files

Order = dict[str, Any]


def main() -> None:
    """Build the artifact, compare it with the original, and print one JSON document in the last line."""
    order = json.load(sys.stdin)
    found = replayed(order) if order["replays"] else whole(order)
    sys.stdout.write("\n" + json.dumps({"error": "", **found}) + "\n")


def whole(order: Order) -> dict[str, Any]:
    """Build the whole artifact and compare the content of every file."""
    out = built(order, order["experiment"], "again")
    files = {name: file["content"] for name, file in described_files(out).items()}
    recorded = {name: file["content"] for name, file in order["files"].items()}
    differing = sorted(name for name in {*files, *recorded} if files.get(name) != recorded.get(name))
    floor = noise_floor(order, out) if order["floor"] else {}
    if not differing:
        return {"equal": True, "difference": "", "floor": floor}
    difference, largest = of_files(Path(order["original"]), out, differing)
    return {"equal": False, "difference": difference, "largest": largest, "floor": floor}


def replayed(order: Order) -> dict[str, Any]:
    """Train some steps again, from the start and from the state before the last epoch, and compare the weights with
    the digests recorded during training; also compare the stored weights with the digest recorded at its end."""
    from models.files.checkpoints import load
    from pipeline.stages.support.compute import prepare
    from pipeline.stages.training.network import replayed as trained
    from pipeline.stages.training.network import weights_digest

    differing, steps = [], {}
    if order["end"] and weights_digest(load(Path(order["original"]) / "model.safetensors")) != order["end"]:
        differing.append("the stored weights are not those that training ended with")
    for epoch, count, expected in order["replays"]:
        job = job_for(order, order["experiment"], f"epoch{epoch}")
        found = trained(job, prepare(job.settings.compute), epoch, count, Path(order["original"]))
        steps[f"epoch {epoch + 1}"] = count
        if found != expected:
            differing.append(f"the weights after {counted(count, 'step')} of epoch {epoch + 1} are others")
    return {"equal": not differing, "difference": "; ".join(differing), "steps": steps}


def noise_floor(order: Order, out: Path) -> dict[str, float]:
    """Measure how much the features change when settings change that should not matter.

    The settings are the batch size, the number of threads and the precision of computation. Each change is given
    relative to the largest feature.
    """
    section = order["experiment"]["sections"]
    variants = {
        "batch": ("visual", "batch", section["visual"]["batch"] + 1),
        "threads": ("compute", "threads", section["compute"]["threads"] + 1),
        "compute": ("visual", "compute", "bfloat16" if section["visual"]["compute"] == "float32" else "float32"),
    }
    floor = {}
    for name, (of, key, value) in variants.items():
        experiment = copy.deepcopy(order["experiment"])
        experiment["sections"][of][key] = value
        other = built(order, experiment, name)
        same = (out / "visual.h5").read_bytes() == (other / "visual.h5").read_bytes()
        floor[name] = 0.0 if same else of_files(out, other, ["visual.h5"])[1] or 0.0
    return floor


def built(order: Order, experiment: dict[str, Any], name: str) -> Path:
    """Build the artifact of the order for an experiment, and return its folder."""
    job = job_for(order, experiment, name)
    implementation_of(task_of(order["store"], order["stage"], order["label"], experiment)).build(job)
    return job.out


def job_for(order: Order, experiment: dict[str, Any], name: str) -> Job[Any, Any]:
    """Return the job that is passed to the stage's implementation."""
    store = Path(order["store"])
    inputs = []
    for stage, label, key in order["from"]:
        below = task_of(order["store"], stage, label, experiment)
        inputs.append((below.provides, Artifact(store, stage, key).files()))
    out = store / name
    out.mkdir()
    task = task_of(order["store"], order["stage"], order["label"], experiment)
    return job_of(task, inputs, out, store / f"{name}-resume", store / "logs", Units({}), lambda done, total: None)


def task_of(store: str, stage: str, label: str, experiment: dict[str, Any]) -> Stage:
    """Return a task of the current code."""
    node = Node(label, Artifact(Path(store), stage, ""), None)
    places = {"store": store, "journal": str(Path(store) / "journal.jsonl")}
    sections, catalogue = experiment["sections"], experiment["catalogue"]
    return BY_NAME[stage].of(sections, catalogue=catalogue, **places, **task_parameters(node))


if __name__ == "__main__":
    main()
