"""A run: build the missing artifacts of a config's task graph and report what was done."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from luigi.task_register import Register

from data.wording import counted
from pipeline import graph
from pipeline.config import Config
from pipeline.engine import catalogue, integrity, miniature
from pipeline.engine.journal import Journal
from pipeline.engine.progress import Progress
from pipeline.engine.stage import Stage
from pipeline.runs import active_runs, preflight
from pipeline.runs.building import StageFailed, all_tasks, build, prepare_processes
from pipeline.runs.overview import RegularLines
from pipeline.sections.dataset.datasets import GENERATED
from pipeline.store import file_system, slots
from pipeline.store.file_hashes import Hashes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: executed and reused tasks and artifact folders by stage, seconds and peak memory."""

    roots: list[Stage]
    executed: dict[str, int]
    reused: dict[str, int]
    artifacts: dict[str, list[str]]
    seconds: float
    peak_memory_mib: int


def prepare(config: Config, store: Path, until: str, verify: bool = False, scheduler: str | None = None) -> list[Stage]:
    """Return the root tasks of a config; until this process ends, `acga gc` keeps the artifacts that they need.

    Generates the miniature if the config uses it, and lists and hashes the raw files; with `verify`, hashes all of them
    again. Raises `HostsDiffer` if another host of the scheduler works on another experiment, and
    `UnsuitableFileSystem`.
    """
    store.mkdir(parents=True, exist_ok=True)
    if not os.access(store, os.W_OK):  # nothing can be deleted from a read-only store either
        return asked(config, store, until, verify)
    file_system.check(store)
    with active_runs.starting(store):
        roots = asked(config, store, until, verify)
        active_runs.register(store, roots, scheduler)
    return roots


def asked(config: Config, store: Path, until: str, verify: bool = False) -> list[Stage]:
    """Return the root tasks of a config like `prepare`, for a caller that already holds the gate."""
    Register.clear_instance_cache()
    path = store / "catalogue" / "hashes.json"
    hashes = Hashes(path, {}) if verify else Hashes.load(path)
    with Progress("catalogue") as progress:
        digest = catalogue.build(config, store, hashes, folders(config, store), progress.update)
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.uname().nodename}-{os.getpid()}.jsonl"
    return graph.root(config, store, store / "journal" / name, digest, until)


def folders(config: Config, store: Path) -> dict[str, Path]:
    """Return the folder of each data set that a role uses, by name; generate the miniature if it does not exist."""
    return {
        name: miniature.ensure(config, store) if section.root == GENERATED else Path(section.root)
        for name, section in config.datasets.items()
        if name in {role.dataset for role in config.sets.values()}
    }


def run(
    config: Config,
    store: Path,
    until: str,
    workers: int,
    scheduler: str | None,
    verify: bool = False,
    devices: str = "auto",
) -> Outcome:
    """Build every missing artifact up to stage `until`; with `verify`, build damaged artifacts again, too.

    `devices` selects the slots of heavy tasks (`pipeline.store.slots.find`). Raises `StageFailed` with the first
    reason, `Unfit` before anything is built, `ImpossibleDevices`, and `HostsDiffer` if another host of the scheduler
    works on another experiment.
    """
    started = time.monotonic()
    if devices != "auto":
        slots.find(devices, config.compute.device, config.compute.threads)
    roots = prepare(config, store, until, verify, scheduler)
    damaged = integrity.drop_damaged(all_tasks(roots)) if verify else []
    names = ready(config, [*roots, *damaged], devices)
    return execute(roots, names, workers, scheduler, started, damaged)


def ready(config: Config, roots: list[Stage], devices: str = "auto") -> tuple[str, ...]:
    """Prepare the processes of tasks and return the slots of this host, after a check of what can be known before.

    Raises `Unfit` with all that cannot end well in the missing ones among the roots and the tasks that they need.
    """
    tasks, troubles = all_tasks(roots), list[str]()
    names: tuple[str, ...] = ()
    try:
        names = _slots_of(config, tasks, devices)
    except slots.ImpossibleDevices as error:
        troubles.append(str(error))
    prepare_processes(tasks, names)
    preflight.check(config, tasks, troubles)
    return names


def _slots_of(config: Config, tasks: list[Stage], devices: str) -> tuple[str, ...]:
    """Return the slots of this host for the heavy ones among the tasks.

    Raises `ImpossibleDevices`; a GPU that does not exist is one only if a task that is missing would need it.
    """
    computing = [task.slots for task in tasks if task.slots and not task.complete()]
    if devices == "auto" and not computing:
        return slots.find("auto", "cpu", config.compute.threads)
    names = slots.find(devices, config.compute.device, config.compute.threads)
    if config.compute.device != "cpu" and max(computing, default=0) > len(names):
        raise slots.ImpossibleDevices(
            f"training.processes = {config.training.processes}, but this host offers {counted(len(names), 'device')}:"
            f" {', '.join(names)}; set training.processes to at most {len(names)}"
        )
    return names


def execute(
    roots: list[Stage],
    names: tuple[str, ...],
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
    with PeakMemory() as memory, RegularLines(roots):
        if missing:
            build(wanted, workers, names, scheduler, journal)
    events = journal.events()
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
