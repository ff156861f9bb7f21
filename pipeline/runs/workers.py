"""The Luigi worker of one host: it runs light tasks beside the heavy ones, which take the slots of the host.

Luigi's own resources count for all hosts of a scheduler together. Here each host registers with the scheduler as two
workers: one for light tasks (Frames, Masks, ...), one for heavy tasks, which compute with torch. It asks for work only
while it has room: for heavy tasks, as many as there are slots. So no host takes work that it cannot begin.

On GPUs, heavy tasks run beside `workers` light ones. On CPUs both kinds use the same cores, so there are `workers`
tasks at a time in all, the light ones first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from luigi.rpc import RemoteScheduler
from luigi.scheduler import Scheduler
from luigi.worker import Worker

from pipeline.engine.stage import Stage
from pipeline.runs.task_results import TaskResults
from pipeline.store import locks

Response = dict[str, Any]
HEAVY = ", heavy"


class HostScheduler:
    """A Luigi scheduler as the worker of one host sees it; `tasks` are all tasks of the run, by id."""

    def __init__(self, scheduler: Any, tasks: dict[str, Stage], light: int, slots: int, at_a_time: int) -> None:
        self.tasks = tasks
        self.blocked: frozenset[str] = frozenset()  # running tasks that wait for the artifact of another run
        self._scheduler = scheduler
        self._light, self._slots, self._at_a_time = light, slots, at_a_time

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_scheduler":  # asked for by pickle before there is a state
            raise AttributeError(name)
        return getattr(self._scheduler, name)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle into the process of a task, which does not ask for work."""
        return {"_scheduler": self._scheduler}

    def add_worker(self, worker: str, info: Any, **others: Any) -> None:
        for name in (worker, worker + HEAVY):
            self._scheduler.add_worker(name, info, **others)

    def ping(self, worker: str, **others: Any) -> Response:
        answers = [self._scheduler.ping(worker=name, **others) for name in (worker, worker + HEAVY)]
        return {"rpc_messages": [message for answer in answers for message in answer["rpc_messages"]]}

    def add_task(self, worker: str, task_id: str, **others: Any) -> None:
        heavy = self.tasks[task_id].slots > 0
        self._scheduler.add_task(worker=worker + HEAVY if heavy else worker, task_id=task_id, **others)

    def get_work(self, worker: str, current_tasks: Collection[str], **others: Any) -> Response:
        """Return a light task, or a heavy one if slots are free; both counts of pending tasks are added up."""
        running = [task for task in current_tasks if task not in self.blocked]
        busy_slots = sum(self.tasks[task].slots for task in running)
        busy = sum(not self.tasks[task].slots for task in running)
        left = self._at_a_time - len(running)
        rooms = {worker: min(self._light - busy, left), worker + HEAVY: min(self._slots - busy_slots, left)}
        found: Response = {}
        for name, room in rooms.items():
            of_kind = [task for task in current_tasks if (self.tasks[task].slots > 0) == name.endswith(HEAVY)]
            if room > 0 and found.get("task_id") is None:
                answer = self._scheduler.get_work(worker=name, current_tasks=of_kind, **others)
            else:
                answer = self._scheduler.count_pending(worker=name)
            found = _added(found, answer)
        return found


def _added(found: Response, answer: Response) -> Response:
    """Return the answer for both workers of a host: the task of either, and the sums of their counts."""
    if not found:
        return answer
    counts = {name: value + answer[name] for name, value in found.items() if name.startswith("n_")}
    task = found if found.get("task_id") is not None else answer
    return {**found, **answer, **task, **counts, "running_tasks": found["running_tasks"] + answer["running_tasks"]}


class HostWorker(Worker):
    """A Luigi worker that starts another task for each of its tasks that waits for another run's artifact.

    It leaves when it has nothing to do and `hopeless` says that a failure makes the rest useless.
    """

    hopeless: Callable[[], bool]
    _blocked: frozenset[str] = frozenset()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._task_result_queue.close()
        self._task_result_queue: Any = TaskResults()

    def _keep_alive(self, response: Any) -> bool:
        stay: bool = super()._keep_alive(response)  # type: ignore[no-untyped-call]
        return stay and not self.hopeless()

    @property
    def worker_processes(self) -> int:
        return self._processes + len(self._blocked)

    @worker_processes.setter
    def worker_processes(self, count: int) -> None:
        self._processes = count

    def _handle_next_task(self) -> None:
        super()._handle_next_task()  # type: ignore[no-untyped-call]
        self._find_blocked()

    def _get_work(self) -> Any:
        self._find_blocked()
        return super()._get_work()  # type: ignore[no-untyped-call]

    def _find_blocked(self) -> None:
        """Find the running tasks whose artifact's lock another process holds."""
        self._scheduler.blocked = self._blocked = frozenset(
            name
            for name, process in self._running_tasks.items()
            if _is_blocked(self._scheduled_tasks[name], process.pid)
        )


def _is_blocked(task: Stage, process: int) -> bool:
    artifact = task.artifact()
    if artifact is None:
        return False
    path = artifact.folder / "lock"
    return locks.is_held(path) and locks.holder(path) != locks.signature(process)


class HostFactory:
    """The factory by which `luigi.build` makes the scheduler and the worker of this host."""

    def __init__(self, tasks: list[Stage], names: tuple[str, ...], hopeless: Callable[[], bool]) -> None:
        self._tasks = {task.task_id: task for task in tasks}
        self._slots = len(names)
        self._beside = 0 if names[0].startswith("cpu") else len(names)
        self._hopeless = hopeless

    def create_local_scheduler(self) -> Scheduler:
        return Scheduler(prune_on_get_work=True, record_task_history=False)

    def create_remote_scheduler(self, url: str) -> RemoteScheduler:
        return RemoteScheduler(url)

    def create_worker(
        self, scheduler: Scheduler | RemoteScheduler, worker_processes: int, assistant: bool
    ) -> HostWorker:
        processes = worker_processes + self._beside
        host = HostScheduler(scheduler, self._tasks, worker_processes, self._slots, processes)
        worker = HostWorker(scheduler=host, worker_processes=processes, assistant=assistant)
        worker.hopeless = self._hopeless
        return worker
