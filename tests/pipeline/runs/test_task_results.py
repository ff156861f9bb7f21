"""The results of tasks reach the worker, whatever happens to the process of another task."""

import multiprocessing
import queue
import time
from operator import methodcaller

import pytest

from pipeline.runs.task_results import TaskResults

CONTEXT = multiprocessing.get_context("forkserver")
MORE_THAN_A_PIPE_HOLDS = b"0" * (1 << 24)


def next_result(results: TaskResults) -> object:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return results.get(timeout=1)
        except queue.Empty:
            pass
    raise TimeoutError("no result")


def test_a_task_killed_while_it_writes_keeps_no_other_from_telling_its_result() -> None:
    results = TaskResults()
    victim = CONTEXT.Process(target=methodcaller("put", MORE_THAN_A_PIPE_HOLDS), args=(results,))
    victim.start()
    (reader,) = results._readers
    assert reader.poll(60)  # it has begun to write, and cannot end before someone reads
    victim.kill()
    victim.join()
    other = CONTEXT.Process(target=methodcaller("put", "done"), args=(results,))
    other.start()
    assert next_result(results) == "done"
    other.join()
    results.put("own")
    assert next_result(results) == "own"
    with pytest.raises(queue.Empty):
        results.get(timeout=0.1)
    results.close()


def test_large_results_of_many_tasks_arrive_once_each() -> None:
    results = TaskResults()
    calls = [methodcaller("put", (number, MORE_THAN_A_PIPE_HOLDS)) for number in range(8)]
    processes = [CONTEXT.Process(target=call, args=(results,)) for call in calls]
    for process in processes:
        process.start()
    found = [next_result(results) for _ in processes]
    assert sorted(number for number, _ in found) == list(range(8))  # type: ignore[misc]
    assert all(content == MORE_THAN_A_PIPE_HOLDS for _, content in found)  # type: ignore[misc]
    for process in processes:
        process.join()
    with pytest.raises(queue.Empty):
        results.get(timeout=0.1)
    assert not results._readers
