"""One artifact built again, in a process of its own: reads what to build from standard input, writes what came of it.

    python -m pipeline.audit.rebuilding < order.json

The order names a store that holds the inputs and nothing else, so that nothing can be taken over.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

from pipeline.artifact import Artifact
from pipeline.audit.subject import BY_NAME, Node, task_parameters
from pipeline.building import described_files, job_of, recipe_of
from pipeline.differing import of_files
from pipeline.recipes.job import Job
from pipeline.recipes.units import Units
from pipeline.stage import Stage

Order = dict[str, Any]


def main() -> None:
    """Build, compare, and print one JSON document in the last line."""
    order = json.load(sys.stdin)
    found = replayed(order) if order["replays"] else whole(order)
    sys.stdout.write("\n" + json.dumps({"error": "", **found}) + "\n")


def whole(order: Order) -> dict[str, Any]:
    """Build all of it and compare every file's content."""
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
    what was noted then; those that are stored with what was noted at the end."""
    from models.checkpoints import load
    from pipeline.recipes.compute import prepare
    from pipeline.recipes.network import replayed as trained
    from pipeline.recipes.network import weights_digest

    differing, steps = [], {}
    if order["end"] and weights_digest(load(Path(order["original"]) / "model.safetensors")) != order["end"]:
        differing.append("the stored weights are not those that training ended with")
    for epoch, count, expected in order["replays"]:
        job = job_for(order, order["experiment"], f"epoch{epoch}")
        found = trained(job, prepare(job.sections["compute"]), epoch, count, Path(order["original"]))
        steps[f"epoch {epoch + 1}"] = count
        if found != expected:
            differing.append(f"the weights after {count} steps of epoch {epoch + 1} are others")
    return {"equal": not differing, "difference": "; ".join(differing), "steps": steps}


def noise_floor(order: Order, out: Path) -> dict[str, float]:
    """How far the same features lie apart, as a share of the largest, where what must not matter is otherwise."""
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
    """The folder of what the recipe makes of an experiment."""
    job = job_for(order, experiment, name)
    recipe_of(task_of(order["store"], order["stage"], order["label"], experiment))(job)
    return job.out


def job_for(order: Order, experiment: dict[str, Any], name: str) -> Job:
    """What the recipe is given."""
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
    """A task, as the code is now."""
    node = Node(label, Artifact(Path(store), stage, ""), None)
    places = {"store": store, "journal": str(Path(store) / "journal.jsonl")}
    sections, catalogue = experiment["sections"], experiment["catalogue"]
    return BY_NAME[stage].of(sections, catalogue=catalogue, **places, **task_parameters(node))


if __name__ == "__main__":
    main()
