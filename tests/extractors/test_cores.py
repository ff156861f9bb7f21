"""The number of cores that a process may use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import PROJECT

from extractors.cores import usable_cores


def test_affinity_counts() -> None:
    core = min(os.sched_getaffinity(0))
    program = (
        f"import os; os.sched_setaffinity(0, [{core}]);"
        " from extractors.cores import usable_cores; print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None)])
def test_a_quota_of_any_control_group_above_counts(tmp_path: Path, quota: str, cores: int | None) -> None:
    group = tmp_path / "cgroup" / "slurm" / "job"
    group.mkdir(parents=True)
    (group.parent / "cpu.max").write_text(quota + "\n")
    (tmp_path / "own").write_text("0::/slurm/job\n")
    expected = len(os.sched_getaffinity(0)) if cores is None else cores
    assert usable_cores(tmp_path / "cgroup", tmp_path / "own") == expected


def test_quotas_of_version_1_count(tmp_path: Path) -> None:
    group = tmp_path / "cgroup" / "cpu,cpuacct" / "docker"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("150000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "own").write_text("4:cpu,cpuacct:/docker\n3:memory:/docker\n")
    assert usable_cores(tmp_path / "cgroup", tmp_path / "own") == 1
