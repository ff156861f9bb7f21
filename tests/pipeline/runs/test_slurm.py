"""The scripts for SLURM, on a real one: a controller and two nodes."""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import PROJECT, Acga, Run
from slurm import NODES, Slurm, slurm
from stores import EVERYTHING, data_files, journals

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm(tmp_path_factory.mktemp("slurm") / "cluster") as started:
        yield started


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A script of configs/slurm with the lines adapted to nodes of one core without GPUs."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    def adapted(name: str) -> Path:
        text = (PROJECT / "configs" / "slurm" / f"{name}.sbatch").read_text()
        text = re.sub(r"#SBATCH --gpus-per-\w+=\d+\n", "", text)
        text = re.sub(r"--cpus-per-task=\d+", "--cpus-per-task=1", text).replace("--array=0-3", "--array=0-1")
        path = tmp_path / f"{name}.sbatch"
        path.write_text(text)
        return path

    return adapted


@pytest.mark.parametrize("name", ["one_node", "several_nodes", "array"])
def test_a_script_runs_to_the_end_on_its_nodes(
    name: str, cluster: Slurm, script, acga: Acga, finished: Run, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    job = cluster.submit(script(name), acga.config, store, folder=tmp_path)
    cluster.wait(job)
    said = "\n".join(path.read_text() for path in sorted(tmp_path.glob("*.out")))
    ends = said.count("report: ")
    assert ends == (1 if name == "one_node" else len(NODES)), said
    built = Counter(event["stage"] for run in journals(store) for event in run if event["event"] == "executed")
    assert built == EVERYTHING
    assert data_files(store) == data_files(finished.store)
