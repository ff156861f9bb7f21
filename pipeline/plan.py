"""What would run, and why, before anything runs."""

from __future__ import annotations

from typing import Any

from pipeline.graph import STAGES
from pipeline.run import everything
from pipeline.stage import Stage


def plan(roots: list[Stage]) -> dict[str, dict[str, Any]]:
    """For each stage: tasks to run, tasks to reuse, and the reasons of the former.

    Stages come in the order of the graph. A task whose inputs are not there counts as one to run, though its inputs
    may come out as they were before.
    """
    tasks = everything(roots)
    present = {task.stage for task in tasks}
    stages: dict[str, dict[str, Any]] = {
        stage.__name__: {"run": 0, "reuse": 0, "reasons": []} for stage in STAGES if stage.__name__ in present
    }
    for task in tasks:
        entry = stages[task.stage]
        if task.complete():
            entry["reuse"] += 1
            continue
        entry["run"] += 1
        reason = _reason(task)
        if reason not in entry["reasons"]:
            entry["reasons"].append(reason)
    return stages


def _reason(task: Stage) -> str:
    missing = sorted({upstream.stage for upstream in task.upstream_tasks if not upstream.complete()})
    if missing:
        return f"runs after {', '.join(missing)}"
    artifact = task.artifact()
    if artifact is not None and artifact.manifest() is not None:
        return "its files are gone or cut short"
    return "no artifact for these inputs, this config and this code"
