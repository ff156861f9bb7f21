"""The number of CPU cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """Return the number of cores that this process may use, at least 1.

    It is the smaller of the CPU affinity (what `taskset` and SLURM set) and the CPU quota of the process's control
    groups (what containers set), rounded down. `os.cpu_count()` counts all cores of the machine instead.
    """
    return max(1, min(len(os.sched_getaffinity(0)), *(int(quota) for quota in _quotas(cgroups, own))))


def _quotas(cgroups: Path, own: Path) -> list[float]:
    """Return the CPU quota, in cores, of each control group that limits this process, of version 1 and 2."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return [float(os.cpu_count() or 1)]
    quotas = [float(os.cpu_count() or 1)]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / controllers if controllers else cgroups
        group = root / path.strip("/")
        for folder in [group, *group.parents]:
            quotas += _quota(folder)
            if folder == root:
                break
    return quotas


def _quota(folder: Path) -> list[float]:
    """Return the quota that a control group itself sets, in cores, or an empty list if it sets none."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()  # version 2
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()  # version 1
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        except OSError:
            return []
    return [int(quota) / int(period)] if quota.isdigit() and int(period) else []
