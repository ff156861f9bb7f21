"""The results of tasks, each sent to the worker over a pipe of the task's own.

Luigi's worker gives all of its tasks one `multiprocessing.Queue`. A task that is killed while it writes there keeps the
lock of the queue for ever, and no other task can ever say that it is done: the run hangs.
"""

from __future__ import annotations

import queue
from collections import deque
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any


class TaskResults:
    """The worker's end of all pipes; has the interface of the queue that it replaces.

    Each time it is pickled into the process of a task, it opens a pipe and becomes a `ResultPipe` there.
    """

    def __init__(self) -> None:
        self._own: deque[Any] = deque()
        self._readers: list[Connection] = []
        self._writers: list[Connection] = []

    def __reduce__(self) -> tuple[type[ResultPipe], tuple[Connection]]:
        reader, writer = Pipe(duplex=False)
        self._readers.append(reader)
        self._writers.append(writer)
        return ResultPipe, (writer,)

    def put(self, result: Any) -> None:
        """Add a result that the worker itself found, such as the death of a task."""
        self._own.append(result)

    def get(self, timeout: float) -> Any:
        """Return the next result. Raises `queue.Empty` if there is none within `timeout` seconds."""
        while self._writers:  # their processes have them by now; only so does a pipe end with its task
            self._writers.pop().close()
        if self._own:
            return self._own.popleft()
        ready = wait(self._readers, timeout)
        for reader in [reader for reader in self._readers if reader in ready]:
            try:
                return reader.recv()
            except (EOFError, OSError):  # the task ended, maybe while it wrote
                self._readers.remove(reader)
                reader.close()
        raise queue.Empty

    def close(self) -> None:
        """Close all pipes."""
        for pipe in (*self._readers, *self._writers):
            pipe.close()


class ResultPipe:
    """The end of a pipe to the worker that a task writes its result to."""

    def __init__(self, writer: Connection) -> None:
        self._writer = writer

    def put(self, result: Any) -> None:
        """Send the result; returns when the worker can read it whole."""
        self._writer.send(result)
