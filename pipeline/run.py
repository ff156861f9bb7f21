"""A run: make the graph of a config true, and say what was done for it."""

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

from pipeline import catalogue, disk, graph, integrity, miniature, running
from pipeline.config import GENERATED, Config
from pipeline.hashes import Hashes
from pipeline.journal import Journal
from pipeline.progress import Progress
from pipeline.stage import Stage

log = logging.getLogger(__name__)
LUIGI = Path(__file__).resolve().parent.parent / "configs" / "luigi.cfg"


class StageFailed(RuntimeError):
    """A stage could not be built; what was finished before it stays."""


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    roots: list[Stage]
    executed: dict[str, int]
    reused: dict[str, int]
    artifacts: dict[str, list[str]]
    seconds: float
    peak_memory_mib: int


def prepare(config: Config, store: Path, until: str, verify: bool = False) -> list[Stage]:
    """The tasks that a config asks for; until this process ends, `acga gc` keeps what they reach.

    Makes the miniature if it is asked for, and lists and hashes the raw files, with `verify` all of them anew.
    """
    store.mkdir(parents=True, exist_ok=True)
    if not os.access(store, os.W_OK):  # nothing can be deleted from it either
        return asked(config, store, until, verify)
    with running.gate(store):
        roots = asked(config, store, until, verify)
        running.announce(store, roots)
    return roots


def asked(config: Config, store: Path, until: str, verify: bool = False) -> list[Stage]:
    """The same for who holds the gate already."""
    Register.clear_instance_cache()
    path = store / "catalogue" / "hashes.json"
    hashes = Hashes(path, {}) if verify else Hashes.load(path)
    with Progress("catalogue") as progress:
        digest = catalogue.build(config, store, hashes, folders(config, store), progress.update)
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}.jsonl"
    return graph.root(config, store, store / "journal" / name, digest, until)


def folders(config: Config, store: Path) -> dict[str, Path]:
    """The folder of each data set that a role uses, by its name; the miniature is made first if it is not there."""
    return {
        name: miniature.ensure(config, store) if section.root == GENERATED else Path(section.root)
        for name, section in config.datasets.items()
        if name in {role.dataset for role in config.sets.values()}
    }


def run(config: Config, store: Path, until: str, workers: int, scheduler: str | None, verify: bool = False) -> Outcome:
    """Build every stage up to `until` that is not there; with `verify` whatever is damaged, too.

    Raises `StageFailed` with the first reason.
    """
    started = time.monotonic()
    roots = prepare(config, store, until, verify)
    damaged = integrity.drop_damaged(everything(roots)) if verify else []
    return execute(roots, config.compute.threads, workers, scheduler, started, damaged)


def execute(
    roots: list[Stage],
    threads: int,
    workers: int,
    scheduler: str | None,
    started: float,
    damaged: Sequence[Stage] = (),
) -> Outcome:
    """Build the roots, everything upstream that is not there and needed, and what is damaged.

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
    tasks = everything(roots)
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


def everything(roots: list[Stage]) -> list[Stage]:
    """The roots and all tasks upstream, inputs first, each once."""
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
    """The largest resident memory of this process and all below it while the context lasts, sampled twice a second.

    Pages that processes share count once for each, so this is an upper bound.
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
    # torch is loaded once, in the process that all tasks are forked from, and never in this one.
    computing = any(task.resources and not task.complete() for task in everything(roots))
    multiprocessing.set_forkserver_preload(
        ["luigi", "pydantic", "pipeline.preloaded", *(["torch"] if computing else [])]
    )
    luigi.configuration.add_config_path(str(LUIGI))
    at_a_time = max(1, (os.cpu_count() or 1) // threads)
    luigi.configuration.get_config().set("resources", "torch", str(at_a_time))
    warnings.simplefilter("ignore", UnconsumedParameterWarning)  # of its own keys in [core]
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
        return disk.full(journal.path.parent) or (
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
