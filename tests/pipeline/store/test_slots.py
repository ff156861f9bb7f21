"""Slots of a host: which there are, and that no two processes hold one."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import PROJECT

from extractors.cores import usable_cores
from pipeline.store import slots
from pipeline.store.slots import ImpossibleDevices, find

HOLD = """
import sys, time
from pathlib import Path
from pipeline.store import slots
with slots.taken(int(sys.argv[1])) as names:
    print(",".join(names), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots that only this test's processes share."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(slots.OFFERED, "pretended:0,pretended:1,pretended:2,pretended:3")


@contextmanager
def holder(count: int) -> Iterator["subprocess.Popen[str]"]:
    """A process that asks for slots, prints them once it has them, and holds them."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(count)], cwd=PROJECT, stdin=pipe, stdout=pipe, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def held(process: "subprocess.Popen[str]") -> set[str]:
    assert process.stdout is not None
    return set(process.stdout.readline().strip().split(","))


def test_on_cpus_there_are_as_many_slots_as_tasks_of_those_threads_fit() -> None:
    assert find("auto", "cpu", 1) == tuple(f"cpu:{index}" for index in range(usable_cores()))
    assert find("cpu", "cpu", 1000) == ("cpu:0",)


def test_gpus_are_those_that_this_process_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(slots.VISIBLE, "2,5")
    assert find("auto", "cuda", 1) == ("cuda:0", "cuda:1")
    assert find("auto", "cuda:1", 1) == ("cuda:1",)
    assert find("cuda:1", "cuda", 1) == ("cuda:1",)


@pytest.mark.parametrize(
    ("devices", "device", "words"),
    [
        ("auto", "cuda", "no CUDA devices"),
        ("cpu", "cuda", "set compute.device=cpu"),
        ("cuda:0", "cpu", "has 0 CUDA devices"),
        ("gpu0", "cuda", "'gpu0' is no device"),
        ("cuda:0,cuda:0", "cuda", "given twice"),
    ],
)
def test_devices_that_are_not_there_are_refused(
    devices: str, device: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(slots.VISIBLE, "")
    with pytest.raises(ImpossibleDevices, match=words):
        find(devices, device, 1)


def test_no_two_processes_hold_a_slot_and_a_killed_one_frees_its_own() -> None:
    with holder(1) as a, holder(1) as b, holder(2) as c:
        names = [held(process) for process in (a, b, c)]
        assert set.union(*names) == set(slots.offered()) and sum(map(len, names)) == 4
        with holder(1) as waiting:
            assert waiting.stdout is not None
            assert not select.select([waiting.stdout], [], [], 3)[0], "all slots are taken"
            b.send_signal(signal.SIGKILL)
            assert held(waiting) == names[1]


def test_a_task_for_all_slots_is_not_overtaken_by_smaller_ones() -> None:
    with holder(1) as first:
        held(first)
        with holder(4) as wide:
            time.sleep(1.5)  # it queues
            with holder(1) as late:
                time.sleep(1.0)
                first.kill()
                assert held(wide) == set(slots.offered())
                wide.kill()
                assert len(held(late)) == 1


def test_a_task_sees_its_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(slots.OFFERED, "cuda:0,cuda:1")
    monkeypatch.setenv(slots.VISIBLE, "GPU-a,GPU-b")
    with slots.taken(1) as names:
        assert (names, os.environ[slots.VISIBLE]) == (("cuda:0",), "GPU-a")


def test_a_folder_that_another_user_may_change_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder = tmp_path / f"acga-{os.getuid()}"
    for make in (lambda: folder.symlink_to(tmp_path / "elsewhere"), lambda: (folder.mkdir(), folder.chmod(0o777))):
        make()
        done = subprocess.run([sys.executable, "-c", HOLD, "1"], cwd=PROJECT, capture_output=True, text=True)
        assert "UnsafeFolder" in done.stderr and str(folder) in done.stderr
        folder.unlink() if folder.is_symlink() else folder.rmdir()
    assert not list((tmp_path / "elsewhere").iterdir())
