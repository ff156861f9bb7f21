"""The time and disk that a plan takes on given hosts, and what bounds it: light tasks, or the slots of heavy ones.

A stage that was built in the store before costs what it cost then (`pipeline.runs.plan`). Any other stage costs by the
rates below, which were measured on two cores at 512 px with the paper's widths. A stage without either is left out and
named; on a GPU nothing was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.engine.stage import Stage
from pipeline.runs.plan import Planned

SIZE = 512  # pixels, of the rates

# Seconds and bytes of a unit: a clip, a sample an epoch, a sample (`make bench`; docs/cluster.md, "On paper").
RATES: dict[str, tuple[float, float]] = {
    "Frames": (0.20, 5.6e6),
    "Masks": (0.019, 3.9e3),
    "VisualFeatures": (1.03, 2.0e6),
    "TrainedModel": (2.09, 0.0),
    "Predictions": (0.58, 0.0),
}
SHORT = ("TextFeatures", "Samples", "Metrics", "Report")  # take seconds


@dataclass(frozen=True)
class Estimate:
    """Seconds until a plan is done, bytes that it writes, the stage that takes longest, and the stages left out."""

    seconds: float
    bytes: float
    bottleneck: str
    unknown: tuple[str, ...]


def estimate(planned: Sequence[tuple[Stage, Planned]], workers: int, slots: int, on_gpu: bool) -> Estimate:
    """Estimate a plan on hosts that run `workers` light tasks and `slots` heavy ones at a time, all hosts together.

    Light and heavy tasks run beside each other, so the longer of the two bounds the time.
    """
    costs: dict[str, list[tuple[float, float]]] = {}
    heavy, unknown = set(), dict[str, None]()
    for task, plan in planned:
        if not plan.runs:
            continue
        if task.slots:
            heavy.add(task.stage)
        if plan.seconds is not None:
            costs.setdefault(task.stage, []).append((plan.seconds, float(plan.bytes or 0)))
        elif task.stage in RATES and not (task.slots and on_gpu):
            seconds, size = RATES[task.stage]
            units, scale = _units(task), _scale(task.values)
            costs.setdefault(task.stage, []).append((units * seconds * scale, units * size * scale))
        elif task.stage not in SHORT:
            unknown[task.stage] = None
    spans = {
        stage: sum(seconds for seconds, _ in found) / min(len(found), slots if stage in heavy else workers)
        for stage, found in costs.items()
    }
    kinds = [sum(span for stage, span in spans.items() if (stage in heavy) == kind) for kind in (False, True)]
    bound = {stage: span for stage, span in spans.items() if (stage in heavy) == (kinds[1] >= kinds[0])}
    return Estimate(
        seconds=max(kinds),
        bytes=sum(size for found in costs.values() for _, size in found),
        bottleneck=max(bound, key=bound.__getitem__, default=""),
        unknown=tuple(unknown),
    )


def _units(task: Stage) -> float:
    """Return the units of a task: clips of a shard, or samples (times the epochs of training)."""
    if task.by_video is not None:
        videos = set(task.videos())
        role = str(task.label).partition("/")[0]
        return float(sum(len(v["labelled"]) for v in task.raw["sets"][role]["videos"] if v["id"] in videos))
    if task.stage == "TrainedModel":
        return _samples(task.raw, "train") * float(task.values["training"]["epochs"])
    return _samples(task.raw, "test")


def _samples(raw: Mapping[str, Any], role: str) -> float:
    """Return the pairs of a sentence and a labelled frame; a few are dropped later, where the instance is absent."""
    entry = raw["sets"].get(role, {"videos": [], "queries": []})
    labelled = {video["id"]: len(video["labelled"]) for video in entry["videos"]}
    return float(sum(labelled.get(query["video"], 0) for query in entry["queries"]))


def _scale(values: Mapping[str, Mapping[str, Any]]) -> float:
    size: int = values.get("frames", {}).get("size", SIZE)
    return (size / SIZE) ** 2
