"""The plan of a run: which tasks would run and why, computed without running anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.engine.stage import Stage
from pipeline.graph import STAGES
from pipeline.runs.building import all_tasks
from pipeline.runs.reasons import Manifest, differences, manifests, modules, nearest


@dataclass(frozen=True)
class Planned:
    """The plan of one task: whether it would run, the reasons, and the cost, estimated from manifests of earlier runs.

    A cost of None is unknown. `unless_equal` is set if some inputs would run, too, and the task need not run if their
    content stays the same. `evicted` is set if the files do not exist and no task that would run needs them.
    """

    stage: str
    label: str
    runs: bool
    evicted: bool = False
    reasons: tuple[str, ...] = field(default=())
    unless_equal: bool = False
    videos: int | None = None
    seconds: float | None = None
    bytes: int | None = None


def planned(roots: list[Stage]) -> list[tuple[Stage, Planned]]:
    """Return every task with its plan, inputs first, without running anything."""
    manifests.cache_clear()
    modules.cache_clear()
    wanted = needed(roots)
    return [(task, _planned(task, task.task_id in wanted)) for task in all_tasks(roots)]


def needed(roots: list[Stage]) -> set[str]:
    """Return the ids of the tasks that would run: the incomplete roots, and the incomplete tasks that they need."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        task = waiting.pop()
        if task.task_id not in found and not task.complete():
            found.add(task.task_id)
            waiting += task.upstream_tasks
    return found


def summary(found: list[tuple[Stage, Planned]]) -> dict[str, dict[str, Any]]:
    """Summarize the plan by stage: the number of tasks to run and to reuse, and the reasons to run.

    `unless_equal` counts the tasks to run that need not run if their inputs stay the same. The summary also estimates
    the number of videos, the seconds and the bytes, or None if no earlier run gives an estimate.
    """
    plans = [plan for _, plan in found]
    present = {plan.stage for plan in plans}
    names = [stage.__name__ for stage in STAGES if stage.__name__ in present]
    return {name: _summary([plan for plan in plans if plan.stage == name]) for name in names}


def _summary(tasks: list[Planned]) -> dict[str, Any]:
    running = [task for task in tasks if task.runs]
    reasons = dict.fromkeys(reason for task in running for reason in task.reasons)
    return {
        "run": len(running),
        "reuse": sum(not task.runs and not task.evicted for task in tasks),
        "evicted": sum(task.evicted for task in tasks),
        "reasons": list(reasons),
        "unless_equal": sum(task.unless_equal for task in running),
        "videos": _sum([task.videos for task in running]),
        "seconds": _sum([task.seconds for task in running]),
        "bytes": _sum([task.bytes for task in running]),
    }


def _sum(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    return round(sum(known), 1) if known else None


def _planned(task: Stage, wanted: bool) -> Planned:
    if not wanted:
        return Planned(task.stage, task.label, runs=False, evicted=not task.complete())
    waiting = sorted({below.stage for below in task.upstream_tasks if not below.complete()})
    manifest = nearest(task)
    if manifest is None:
        damaged = (artifact := task.artifact()) is not None and (artifact.folder / "manifest.json").exists()
        reason = "its manifest is damaged" if damaged else "nothing was made of it yet"
        return Planned(task.stage, task.label, True, reasons=(reason,))
    own = differences(task, manifest)
    reasons = list(own)
    if waiting:
        reasons.append(f"after {', '.join(waiting)}" + ("" if own else ": runs unless its inputs come out equal"))
    elif not own:
        reasons.append(_absence(task))
    videos, seconds, size = _cost(task, manifest, own)
    return Planned(
        task.stage,
        task.label,
        runs=True,
        reasons=tuple(reasons),
        unless_equal=bool(waiting and not own),
        videos=videos,
        seconds=seconds,
        bytes=size,
    )


def _absence(task: Stage) -> str:
    """Return the reason why a task is incomplete although it does not differ from an earlier artifact."""
    artifact = task.artifact()
    if artifact is None or not (artifact.folder / "manifest.json").exists():
        return "no artifact for these inputs"
    if artifact.manifest() is None:
        return "its manifest is damaged"
    return "its files were evicted, and are needed" if artifact.evicted else "its files are gone or cut short"


def _cost(task: Stage, manifest: Manifest, own: list[str]) -> tuple[int | None, float, int]:
    """Estimate the videos to make, seconds and bytes from the nearest artifact; in proportion if made by video."""
    cost = manifest["cost"]
    if task.by_video is None:
        return None, cost["seconds"], cost["bytes"]
    videos = task.videos()
    usable = own and all(reason.startswith(("video", "raw records")) for reason in own)
    known = manifest["units"] if usable else ()
    changed = {reason.split()[1] for reason in own if reason.startswith("video ")}
    to_make = [video for video in videos if video not in known or video in changed]
    made = max(1, cost["units"] - cost["taken_over"])
    return len(to_make), cost["seconds"] * len(to_make) / made, cost["bytes"] * len(videos) // max(1, cost["units"])
