"""The progress of a run over all hosts of its store: what is done, what runs where, and how long the rest may take."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from data.wording import counted
from pipeline.engine.journal import Event, Journal
from pipeline.engine.stage import Stage
from pipeline.graph import STAGES
from pipeline.runs.building import all_tasks
from pipeline.runs.plan import needed
from pipeline.store import locks

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 30.0
RECENT_SECONDS = 300.0  # over which the rate of clips is taken


@dataclass(frozen=True)
class StageProgress:
    """The tasks of a stage: how many are done, are not but need not be, and are waiting; and who runs the others."""

    done: int
    missing: int
    evicted: int
    running: tuple[str, ...]  # "process 17 on HOST", one for each running task


@dataclass(frozen=True)
class Overview:
    """The progress by stage; videos per second and seconds left are None while nothing tells them."""

    stages: dict[str, StageProgress]
    videos_per_second: float | None
    seconds_left: float | None

    @property
    def complete(self) -> bool:
        return not any(stage.missing for stage in self.stages.values())

    @property
    def line(self) -> str:
        """Return the progress of all stages in one line."""
        done = sum(stage.done for stage in self.stages.values())
        total = done + sum(stage.missing for stage in self.stages.values())
        running = [who for stage in self.stages.values() for who in stage.running]
        places = ", ".join(sorted({who.rpartition(" on ")[2] for who in running}))
        parts = [
            f"{done} of {counted(total, 'task')} done",
            f"{len(running)} running" + (f" on {places}" if places else ""),
        ]
        if self.videos_per_second is not None:
            parts.append(f"{self.videos_per_second:.1f} videos/s")
        if self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left")
        return ", ".join(parts)


class RegularLines:
    """A context manager that logs the progress over all hosts in one line every half minute."""

    def __init__(self, roots: list[Stage]) -> None:
        self._roots = roots
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._log, daemon=True)

    def __enter__(self) -> RegularLines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _log(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_LINES):
            log.info("%s", overview(all_tasks(self._roots), needed(self._roots)).line)


def overview(tasks: list[Stage], wanted: set[str]) -> Overview:
    """Return the progress of these tasks; `wanted` are the ids of those that are still to be run."""
    stages: dict[str, StageProgress] = {}
    of_stage: dict[str, list[Stage]] = defaultdict(list)
    for task in tasks:
        of_stage[task.stage].append(task)
    for name in (stage.__name__ for stage in STAGES if stage.__name__ in of_stage):
        missing = [task for task in of_stage[name] if task.task_id in wanted]
        complete = sum(task.complete() for task in of_stage[name])
        evicted = len(of_stage[name]) - complete - len(missing)
        stages[name] = StageProgress(complete, len(missing), evicted, tuple(_running(missing)))
    events = _events(Path(tasks[0].store) / "journal") if tasks else []
    return Overview(stages, _rate(events), _left(stages, events))


def duration(seconds: float) -> str:
    """Return a duration as text, such as "40 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _running(missing: list[Stage]) -> list[str]:
    places = [artifact.folder / "lock" for task in missing if (artifact := task.artifact()) is not None]
    return [locks.holder(path) for path in places if locks.is_held(path)]


def _events(journals: Path) -> list[Event]:
    """Return the tasks that were executed, by all hosts, in the last hours."""
    oldest = time.time() - 86400
    paths = [path for path in journals.glob("*.jsonl") if path.stat().st_mtime > oldest]
    return [event for path in sorted(paths) for event in Journal(path).events() if event["event"] == "executed"]


def _rate(events: list[Event]) -> float | None:
    now = time.time()
    recent = [event for event in events if now - event.get("time", 0.0) < RECENT_SECONDS and "units" in event]
    made = sum(event["units"] for event in recent)
    begun = min((event["time"] - event["seconds"] for event in recent), default=now)
    return made / (now - begun) if made and now > begun else None


def _left(stages: dict[str, StageProgress], events: list[Event]) -> float | None:
    """Estimate the seconds left: the mean seconds of each stage's tasks so far, as many at a time as run now."""
    running = sum(len(stage.running) for stage in stages.values())
    seconds: dict[str, list[float]] = defaultdict(list)
    for event in events:
        seconds[event["stage"]].append(event["seconds"])
    if not running or any(stage.missing and name not in seconds for name, stage in stages.items()):
        return None
    return (
        sum(stage.missing * sum(seconds[name]) / len(seconds[name]) for name, stage in stages.items() if stage.missing)
        / running
    )
