"""The devices of a host: one heavy task each, all of them used, and free again when a run is killed."""

import os
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
from commands import Acga
from stores import journals

from pipeline.store import slots

SHARDS = ("--set", "dataset.shards=12")
FOUR = tuple(f"pretended:{index}" for index in range(4))


def started(acga: Acga, store: Path, *arguments: str) -> "subprocess.Popen[str]":
    place = acga.place | {"env": acga.place["env"] | {slots.PRETENDED: "4"}}
    command = acga.command("run", acga.config, "--store", store, "--json", *SHARDS, *arguments)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, **place, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


@pytest.mark.slow
def test_no_device_has_two_tasks_at_a_time_over_all_runs_and_none_is_idle(acga: Acga, tmp_path: Path) -> None:
    runs = [
        started(acga, tmp_path / "one"),
        started(acga, tmp_path / "other"),
    ]  # they share slots alone
    ends = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ends
    spans = [
        (event["time"] - event["seconds"], event["time"], device)
        for store in ("one", "other")
        for run in journals(tmp_path / store)
        for event in run
        if event["event"] == "executed"
        for device in event["devices"]
    ]
    assert {device for _, _, device in spans} == set(FOUR)
    for a, b in combinations(spans, 2):
        assert a[2] != b[2] or a[1] <= b[0] + 0.05 or b[1] <= a[0] + 0.05, (a, b)
    busy = max(sum(begin <= moment < end for begin, end, _ in spans) for moment, _, _ in spans)
    assert busy == 4


@pytest.mark.slow
def test_a_killed_run_frees_its_devices(acga: Acga, tmp_path: Path) -> None:
    run = started(acga, tmp_path / "store")
    assert run.stderr is not None
    assert any(line.startswith("VisualFeatures") for line in run.stderr)
    os.killpg(run.pid, 9)
    run.communicate()
    again = started(acga, tmp_path / "store", "--until", "Predictions")
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors


def test_devices_that_are_not_there_stop_the_run_before_it_begins(acga: Acga, tmp_path: Path) -> None:
    done = acga("run", acga.config, "--store", tmp_path / "store", "--devices", "cuda:7")
    assert done.code == 2 and "cuda:7: this machine has 0 CUDA devices" in done.errors
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_on_cpus_no_more_tasks_run_at_a_time_than_workers(acga: Acga, tmp_path: Path) -> None:
    acga.run(tmp_path / "store", *SHARDS, "--workers", 1)
    (events,) = journals(tmp_path / "store")
    spans = [(event["time"] - event["seconds"], event["time"]) for event in events if event["event"] == "executed"]
    assert any(event["devices"] for event in events) and not all(event["devices"] for event in events)
    for a, b in combinations(spans, 2):
        assert a[1] <= b[0] + 0.05 or b[1] <= a[0] + 0.05, (a, b)
