"""A run: build the missing artifacts of a config's task graph and report what was done."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import luigi
import psutil
from luigi.parameter import UnconsumedParameterWarning
from luigi.rpc import RPCError
from luigi.task_register import Register

from pipeline import graph
from pipeline.config import Config
from pipeline.engine import catalogue, integrity, miniature
from pipeline.engine.journal import Journal
from pipeline.engine.progress import Progress
from pipeline.engine.stage import Stage
from pipeline.runs import active_runs
from pipeline.sections.dataset.datasets import GENERATED
from pipeline.store import disk_errors
from pipeline.store.file_hashes import Hashes

log = logging.getLogger(__name__)
LUIGI = Path(__file__).resolve().parents[2] / "configs" / "luigi.cfg"


class StageFailed(RuntimeError):
    """Error of a run in which a stage could not be built; artifacts that were finished before it are kept."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: executed and reused tasks and artifact folders by stage, seconds and peak memory."""

    roots: list[Stage]
    executed: dict[str, int]
    reused: dict[str, int]
    artifacts: dict[str, list[str]]
    seconds: float
    peak_memory_mib: int


def prepare(config: Config, store: Path, until: str, verify: bool = False) -> list[Stage]:
    """Return the root tasks of a config; until this process ends, `acga gc` keeps the artifacts that they need.

    Generates the miniature if the config uses it, and lists and hashes the raw files; with `verify`, hashes all of them
    again.
    """
    store.mkdir(parents=True, exist_ok=True)
    if not os.access(store, os.W_OK):  # nothing can be deleted from a read-only store either
        return asked(config, store, until, verify)
    with active_runs.starting(store):
        roots = asked(config, store, until, verify)
        active_runs.register(store, roots)
    return roots


def asked(config: Config, store: Path, until: str, verify: bool = False) -> list[Stage]:
    """Return the root tasks of a config like `prepare`, for a caller that already holds the gate."""
    Register.clear_instance_cache()
    path = store / "catalogue" / "hashes.json"
    hashes = Hashes(path, {}) if verify else Hashes.load(path)
    with Progress("catalogue") as progress:
        digest = catalogue.build(config, store, hashes, folders(config, store), progress.update)
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}.jsonl"
    return graph.root(config, store, store / "journal" / name, digest, until)


def folders(config: Config, store: Path) -> dict[str, Path]:
    """Return the folder of each data set that a role uses, by name; generate the miniature if it does not exist."""
    return {
        name: miniature.ensure(config, store) if section.root == GENERATED else Path(section.root)
        for name, section in config.datasets.items()
        if name in {role.dataset for role in config.sets.values()}
    }


def run(config: Config, store: Path, until: str, workers: int, scheduler: str | None, verify: bool = False) -> Outcome:
    """Build every missing artifact up to stage `until`; with `verify`, build damaged artifacts again, too.

    Raises `StageFailed` with the first reason.
    """
    started = time.monotonic()
    roots = prepare(config, store, until, verify)
    damaged = integrity.drop_damaged(all_tasks(roots)) if verify else []
    return execute(roots, config.compute.threads, workers, scheduler, started, damaged)


def execute(
    roots: list[Stage],
    threads: int,
    workers: int,
    scheduler: str | None,
    started: float,
    damaged: Sequence[Stage] = (),
) -> Outcome:
    """Build the roots, the missing artifacts upstream that they need, and the damaged tasks.

    Raises `StageFailed` with the first reason.
    """
    journal = Journal(Path(roots[0].journal))
    wanted = [*roots, *damaged]
    missing = not all(task.complete() for task in wanted)
    writable = os.access(roots[0].store, os.W_OK)
    if missing and not writable:
        raise StageFailed(f"the store {roots[0].store} is read-only, and not everything is there; see `acga plan`")
    with PeakMemory() as memory:
        if missing:
            _build(wanted, workers, threads, scheduler)
    events = journal.events()
    if not all(task.complete() for task in wanted):
        raise StageFailed(_reason(events, journal))
    done = {(event["stage"], event["key"]) for event in events if event["event"] == "executed"}
    tasks = all_tasks(roots)
    reused = [(task, key) for task in tasks if task.complete() and (task.stage, key := _key(task)) not in done]
    for task, key in reused if writable else ():
        journal.record("reused", task.stage, task.label, key=key)
    return Outcome(
        roots=roots,
        executed=dict(Counter(event["stage"] for event in events if event["event"] == "executed")),
        reused=dict(Counter(task.stage for task, _ in reused)),
        artifacts=_folders(tasks),
        seconds=round(time.monotonic() - started, 3),
        peak_memory_mib=memory.mib,
    )


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


class PeakMemory:
    """A context manager that measures the peak resident memory of this process and its descendants, in MiB.

    It samples twice a second. Pages shared by several processes count once for each, so the figure is an upper bound.
    """

    def __init__(self) -> None:
        self.mib = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while True:
            resident = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    resident += process.memory_info().rss
                except psutil.Error:
                    continue
            self.mib = max(self.mib, resident // 2**20)
            if self._stop.wait(0.5):
                return


def _build(roots: list[Stage], workers: int, threads: int, scheduler: str | None) -> None:
    multiprocessing.set_start_method("forkserver", force=True)
    # torch is loaded once, in the forkserver from which all tasks are forked, and never in this process.
    computing = any(task.resources and not task.complete() for task in all_tasks(roots))
    multiprocessing.set_forkserver_preload(
        ["luigi", "pydantic", "pipeline.runs.forkserver_preload", *(["torch"] if computing else [])]
    )
    luigi.configuration.add_config_path(str(LUIGI))
    at_a_time = max(1, (os.cpu_count() or 1) // threads)
    luigi.configuration.get_config().set("resources", "torch", str(at_a_time))
    warnings.simplefilter("ignore", UnconsumedParameterWarning)  # raised for Luigi's own keys in [core]
    options: dict[str, Any] = {"scheduler_url": scheduler} if scheduler else {"local_scheduler": True}
    try:
        luigi.build(roots, workers=workers, no_lock=True, log_level="CRITICAL", detailed_summary=True, **options)
    except RPCError as error:
        raise StageFailed(
            f"the scheduler {scheduler} does not answer ({error}); start it again and run again"
        ) from error


def _reason(events: list[dict[str, Any]], journal: Journal) -> str:
    failures = [event for event in events if event["event"] == "failed"]
    if not failures:
        return disk_errors.full_disk(journal.path.parent) or (
            "no task says why: workers were killed (by the kernel for want of memory? then fewer --workers, or smaller"
            f" batches), the scheduler was lost, or other hosts still build; run again (see {journal.path})"
        )
    first = next((event for event in failures if event["kind"] == "refused"), failures[0])
    where = f"{first['stage']} {first['task']}".strip()
    known = "" if first["kind"] != "unexpected" else f" (not foreseen; the traceback is in {journal.path})"
    return f"{where}: {first['error']}{known}"


def _key(task: Stage) -> str:
    artifact = task.artifact()
    return "" if artifact is None else artifact.key


def _folders(tasks: list[Stage]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for task in tasks:
        artifact = task.artifact()
        if artifact is not None:
            folders.setdefault(task.stage, []).append(str(artifact.folder))
    return {stage: sorted(set(names)) for stage, names in folders.items()}
