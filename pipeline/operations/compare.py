"""Comparison of the scores of several experiments, with confidence intervals for their differences.

The intervals come from a paired bootstrap (Efron and Tibshirani, 1993): the same videos are drawn for both sides, so
that the difficulty of a video cancels out. They hold for these trained networks and do not cover variation between
seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.evaluation.bootstrap import LEVEL, draws, interval
from pipeline.config import Config
from pipeline.engine.stage import Stage
from pipeline.runs import run
from pipeline.store import locks
from pipeline.store.artifact import Artifact

PAIRED = "acga"  # the protocol for which the IoU of every sample is stored


class NotScored(ValueError):
    """Error of an experiment without scores in the store; the message names it and gives the remedy."""


@dataclass(frozen=True)
class Scored:
    """The metrics.json of an experiment, and the video of each of its samples."""

    metrics: Mapping[str, Any]
    videos: Mapping[str, str]


def compare(configs: Mapping[str, Config], store: Path) -> dict[str, Any]:
    """Compare the scores of each config with those of the first one, by protocol.

    For the protocol `acga`, compute the difference of the mean IoU to the first config, with its 95 % interval over
    videos, if both were scored on the same samples. The returned document maps "protocols" -> protocol -> config ->
    {"scores", "difference", "interval"}; "not_compared" lists the configs scored on other samples. Raises `NotScored`.
    """
    found = {name: _scored(name, config, store) for name, config in configs.items()}
    first_name, first = next(iter(found.items()))
    section = configs[first_name].metrics
    protocols: dict[str, dict[str, Any]] = {}
    not_compared = []
    for name, own in found.items():
        paired = own.metrics["samples"].keys() == first.metrics["samples"].keys()
        if not paired:
            not_compared.append(f"{name} was scored on other samples than {first_name}: their scores do not compare")
        for protocol, scores in own.metrics["protocols"].items():
            row: dict[str, Any] = {"scores": scores, "difference": None, "interval": None}
            if protocol == PAIRED and paired and name != first_name:
                row["difference"], row["interval"] = _difference(first, own, section.resamples, section.seed)
            protocols.setdefault(protocol, {})[name] = row
    return {"protocols": protocols, "not_compared": not_compared}


def _difference(first: Scored, other: Scored, resamples: int, seed: int) -> tuple[float, list[float]]:
    """Return the other's mean IoU minus the first one's, and the interval of this difference over videos."""
    names = list(first.metrics["samples"])
    by_sample = np.array([other.metrics["samples"][name] - first.metrics["samples"][name] for name in names])
    drawn = draws([first.videos[name] for name in names], resamples, seed)
    means = np.array([weights @ by_sample / weights.sum() for weights in drawn])
    return float(by_sample.mean()), list(interval(means, (1 - LEVEL) / 2))


def _scored(name: str, config: Config, store: Path) -> Scored:
    if not (store / "Metrics").is_dir():  # checked before the raw files are listed or even generated
        raise _absent(name, "Metrics", store)
    (task,) = run.prepare(config, store, "Metrics")
    metrics = json.loads((_files(name, task, store) / "metrics.json").read_bytes())
    (samples,) = (below for below in task.upstream_tasks if "Samples" in below.provides)
    listed = json.loads((_files(name, samples, store) / "samples.json").read_bytes())["samples"]
    return Scored(metrics, {sample["id"]: sample["clip"].rpartition("/")[0] for sample in listed})


def _files(name: str, task: Stage, store: Path) -> Path:
    """Return the folder of a task's files, which is locked against deletion until this process ends.

    Raises `NotScored` if the artifact is incomplete.
    """
    place: Artifact | None = task.artifact()
    if place is None or not place.complete():
        raise _absent(name, task.stage, store)
    locks.keep(place.folder / "lock")
    return place.files()


def _absent(name: str, stage: str, store: Path) -> NotScored:
    return NotScored(f"{name}: its {stage} are not in {store}; run `acga run {name}` first")
