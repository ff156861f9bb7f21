"""Several hosts on one store, with one scheduler: they share the work and come to one end, whatever happens to them."""

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Acga
from hosts import Host, hosts, kill, luigid
from stores import journals, manifests

pytestmark = [pytest.mark.slow, pytest.mark.alone]

SHARDS, VIDEOS = ("--set", "dataset.shards=12"), 11  # a shard a video
REPETITIONS = int(os.environ.get("ACGA_REPETITIONS", "2"))


@pytest.fixture(scope="module")
def three() -> Iterator[list[Host]]:
    with hosts(3) as made:
        yield made


@pytest.fixture(scope="module")
def alone(acga: Acga, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The content hashes of a single host's store, by stage and label."""
    store = tmp_path_factory.mktemp("alone") / "store"
    acga.run(store, *SHARDS)
    return contents(store)


def contents(store: Path) -> dict[str, str]:
    return {" ".join(name): manifest["content"] for name, manifest in manifests(store).items()}


def end(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=400)
    return process.returncode, output, errors


def executed(store: Path) -> list[dict]:
    return [event for run in journals(store) for event in run if event["event"] == "executed"]


def check(store: Path, alone: dict[str, str]) -> None:
    """No task was executed twice over all journals, and the contents are a single host's."""
    counts = Counter((event["stage"], event["task"]) for event in executed(store))
    assert set(counts.values()) == {1}
    assert contents(store) == alone


def test_three_hosts_share_the_work_and_end_together(
    acga: Acga, three: list[Host], alone: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with luigid(three[0], tmp_path) as scheduler:
        ends = [end(process) for process in [host.run(acga, store, scheduler, *SHARDS) for host in three]]
    assert [code for code, _, _ in ends] == [0, 0, 0], [errors for _, _, errors in ends]
    scores = [json.loads(output)["metrics"] for _, output, _ in ends]
    assert scores[0] == scores[1] == scores[2]
    check(store, alone)
    shards = [event for event in executed(store) if event["stage"] == "VisualFeatures"]
    of_host = Counter(event["host"] for event in shards)
    assert len(shards) == VIDEOS and min(of_host[host.name] for host in three) >= VIDEOS / 5
    spans = sorted((event["time"] - event["seconds"], event["time"], event["host"]) for event in shards)
    overlaps = [(a[2], b[2]) for a in spans for b in spans if a < b and b[0] < a[1] and a[2] != b[2]]
    assert overlaps, spans


@pytest.mark.parametrize("seed", range(REPETITIONS))
def test_a_killed_host_a_late_one_and_a_restarted_scheduler_change_nothing(
    acga: Acga, three: list[Host], alone: dict[str, str], tmp_path: Path, seed: int
) -> None:
    store, chance = tmp_path / "store", random.Random(seed)
    with luigid(three[0], tmp_path) as scheduler:
        first, second = (host.run(acga, store, scheduler, *SHARDS) for host in three[:2])
        wait_for_shards(store, chance.randint(1, 3))
        kill(second)
        late = three[2].run(acga, store, scheduler, *SHARDS)
        wait_for_shards(store, chance.randint(4, 6))
    time.sleep(chance.uniform(0, 3))
    with luigid(three[0], tmp_path):
        ends = [end(process) for process in (first, late)]
    assert [code for code, _, _ in ends] == [0, 0], [errors for _, _, errors in ends]
    check(store, alone)


def wait_for_shards(store: Path, count: int) -> None:
    """Wait until so many shards of visual features are there."""
    deadline = time.monotonic() + 200
    while len(list(store.glob("VisualFeatures/*/manifest.json"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_failure_is_told_on_every_host_with_its_task_and_host(
    acga: Acga, three: list[Host], tmp_path: Path, miniature: Path
) -> None:
    annotated = {path.name for path in miniature.glob("text_annotations/a2d_annotation_with_instances/*")}
    video = min(path for path in miniature.glob("Release/clips320H/*.mp4") if path.stem in annotated)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with luigid(three[0], tmp_path) as scheduler:
        settings = ("--set", f"dataset.root={miniature}", *SHARDS)
        runs = [host.run(acga, tmp_path / "store", scheduler, *settings) for host in three]
        ends = [end(process) for process in runs]
    assert [code for code, _, _ in ends] == [3, 3, 3], [errors for _, _, errors in ends]
    complaints = [line for _, _, errors in ends for line in errors.splitlines() if line.startswith("acga: ")]
    assert len(complaints) == 3 and all(line.startswith("acga: Frames ") for line in complaints)
    assert all(video.stem in line for line in complaints), complaints
    assert any(" on host-" in line for line in complaints)


def test_a_host_that_differs_is_refused_by_what_differs(acga: Acga, three: list[Host], tmp_path: Path) -> None:
    other = Acga.copied(tmp_path / "project")
    path = other.project / "data" / "letterbox.py"
    path.write_text(path.read_text() + "\nANOTHER = 1\n")
    with luigid(three[0], tmp_path) as scheduler:
        first = three[0].run(acga, tmp_path / "store", scheduler, *SHARDS)
        wait_for_shards(tmp_path / "store", 1)
        code, output, errors = end(three[1].run(other, tmp_path / "store", scheduler, *SHARDS))
        assert (code, output) == (2, "") and "the code differ" in errors and "on host-0" in errors
        config = ("--set", "training.lr=0.5")
        code, output, errors = end(three[1].run(acga, tmp_path / "store", scheduler, *SHARDS, *config))
        assert (code, output) == (2, "") and "the sections differ in training" in errors
        kill(first)
