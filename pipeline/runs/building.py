"""Building the missing artifacts of a run, alone or together with other runs and hosts on the same store.

The store tells what is complete, who builds what (by the locks of artifacts) and what failed (by the journals). With a
scheduler (`luigid`), a host that has nothing left to do waits here until the others have finished or failed.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import luigi
from luigi.parameter import UnconsumedParameterWarning
from luigi.rpc import RPCError

from pipeline import interrupts
from pipeline.engine.journal import Event, Journal, OtherJournals
from pipeline.engine.stage import Stage
from pipeline.runs.workers import HostFactory
from pipeline.store import disk_errors, locks, slots

LUIGI = Path(__file__).resolve().parents[2] / "configs" / "luigi.cfg"
PATIENCE_SECONDS = 180.0  # that nothing may happen; luigid gives the tasks of a lost host to others after 60 s
SECONDS_BETWEEN_LOOKS = 0.5


class StageFailed(RuntimeError):
    """Error of a run in which a stage could not be built; artifacts that were finished before it are kept."""


def build(wanted: list[Stage], workers: int, names: tuple[str, ...], scheduler: str | None, journal: Journal) -> None:
    """Build the wanted tasks and what they need; return when all are complete, whoever built them.

    `prepare_processes` must have been called. `workers` and the slots `names` limit the tasks at a time
    (`pipeline.runs.workers`). Raises `StageFailed` with the first reason, also if the failure was on another host.
    """
    tasks = all_tasks(wanted)
    others = OtherJournals(journal.path)
    last_change, known = time.monotonic(), None
    while True:
        missing = [task for task in tasks if not task.complete()]
        if not missing or all(task.complete() for task in wanted):
            return
        _session(wanted, tasks, workers, names, scheduler, journal, others)
        if all(task.complete() for task in wanted):
            return
        own = journal.events() if scheduler is None else certain(journal.events())  # luigid may try a task again
        if (reason := failure(own, others.failures(_keys(missing)), journal)) is not None:
            raise StageFailed(reason)
        builders = held_by(missing)
        found = sum(task.complete() for task in tasks)
        if found != known or builders:
            last_change, known = time.monotonic(), found
        patience = PATIENCE_SECONDS if scheduler else 0.0
        if not builders and time.monotonic() - last_change >= patience:
            raise StageFailed(disk_errors.full_disk(journal.path.parent) or _unexplained(journal))
        time.sleep(SECONDS_BETWEEN_LOOKS)


def all_tasks(roots: list[Stage]) -> list[Stage]:
    """Return the roots and all tasks upstream, inputs first, each once."""
    ordered: dict[str, Stage] = {}

    def visit(task: Stage) -> None:
        if task.task_id in ordered:
            return
        for upstream in task.upstream_tasks:
            visit(upstream)
        ordered[task.task_id] = task

    for task in roots:
        visit(task)
    return list(ordered.values())


def held_by(tasks: list[Stage]) -> list[str]:
    """Return the processes that build some of these tasks, as "process ... on HOST"."""
    places = [artifact.folder / "lock" for task in tasks if (artifact := task.artifact()) is not None]
    return sorted({locks.holder(path) for path in places if locks.is_held(path)})


def failure(own: list[Event], elsewhere: list[Event], journal: Journal) -> str | None:
    """Return why a run failed: its own first failure, or else a certain one of another run; None if none tells."""
    failures = [event for event in own if event["event"] == "failed"]
    found = [*failures, *certain(elsewhere)]
    if not found:
        return None
    first = next((event for event in found if event["kind"] == "refused"), found[0])
    where = f"{first['stage']} {first['task']}".strip()
    host = f" on {first['host']}" if first not in failures else ""
    known = "" if first["kind"] != "unexpected" else f" (not foreseen; the traceback is in {journal.path.parent})"
    return f"{where}{host}: {first['error']}{known}"


def certain(events: list[Event]) -> list[Event]:
    """Return the failures after which Luigi tries a task no more: a refused input, or the second failure of a task."""
    failures = [event for event in events if event["event"] == "failed"]
    times = Counter((event["stage"], event["task"]) for event in failures)
    return [event for event in failures if event["kind"] == "refused" or times[event["stage"], event["task"]] > 1]


def prepare_processes(tasks: list[Stage], names: tuple[str, ...]) -> None:
    """Set up how processes of tasks start, before the first of them does; `names` are the slots of this host."""
    slots.offer(names)
    multiprocessing.set_start_method("forkserver", force=True)
    # torch is loaded once, in the forkserver from which all tasks are forked, and never in this process.
    computing = any(task.slots and not task.complete() for task in tasks)
    multiprocessing.set_forkserver_preload(
        ["luigi", "pydantic", "pipeline.runs.forkserver_preload", *(["torch"] if computing else [])]
    )
    interrupts.start_forkserver()
    luigi.configuration.add_config_path(str(LUIGI))
    warnings.simplefilter("ignore", UnconsumedParameterWarning)  # raised for Luigi's own keys in [core]


def _session(
    wanted: list[Stage],
    tasks: list[Stage],
    workers: int,
    names: tuple[str, ...],
    scheduler: str | None,
    journal: Journal,
    others: OtherJournals,
) -> None:
    """Let Luigi run what is missing until this host has nothing left to do, or a failure makes the rest useless."""

    def hopeless() -> bool:
        if scheduler is None:  # Luigi's own rules end it
            return False
        missing = [task for task in tasks if not task.complete()]
        return bool(certain([*journal.events(), *others.failures(_keys(missing))]))

    factory = HostFactory(tasks, names, hopeless)
    options: dict[str, Any] = {"scheduler_url": scheduler} if scheduler else {"local_scheduler": True}
    try:
        luigi.build(
            wanted,
            worker_scheduler_factory=factory,
            workers=workers,
            no_lock=True,
            log_level="CRITICAL",
            detailed_summary=True,
            **options,
        )
    except RPCError as error:
        raise StageFailed(
            f"the scheduler {scheduler} does not answer ({error}); start it again and run again"
        ) from error


def _keys(tasks: list[Stage]) -> set[str]:
    """Return the keys of those tasks whose inputs are all there."""
    return {artifact.key for task in tasks if (artifact := task.artifact()) is not None}


def _unexplained(journal: Journal) -> str:
    return (
        f"no task says why: workers on {os.uname().nodename} were killed (by the kernel for want of memory? then fewer"
        f" --workers, or smaller batches), or the scheduler was lost; run again (see {journal.path})"
    )
