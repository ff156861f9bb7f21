"""The CPU cores and the memory that this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """Return the number of cores that this process may use, at least 1.

    It is the smaller of the CPU affinity (what `taskset` and SLURM set) and the CPU quota of the process's control
    groups (what containers set), rounded down. `os.cpu_count()` counts all cores of the machine instead.
    """
    return max(1, min(len(os.sched_getaffinity(0)), *(int(quota) for quota in _quotas(cgroups, own))))


def usable_memory(total: int, cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """Return the bytes of memory that this process may use: those of the machine, or what its control groups allow."""
    limits = [total]
    for folder in _groups("memory", cgroups, own):
        for name in ("memory.max", "memory.limit_in_bytes"):  # version 2, version 1
            with suppress(OSError):
                text = (folder / name).read_text(encoding="utf-8").strip()
                limits += [int(text)] if text.isdigit() else []
    return min(limits)


def _quotas(cgroups: Path, own: Path) -> list[float]:
    """Return the CPU quota, in cores, of each control group that limits this process, of version 1 and 2."""
    quotas = [float(os.cpu_count() or 1)]
    for folder in _groups("cpu", cgroups, own):
        quotas += _quota(folder)
    return quotas


def _groups(controller: str, cgroups: Path, own: Path) -> Iterator[Path]:
    """Yield the folders of the control groups that limit this process, of version 1 and 2."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = cgroups / controllers if controllers else cgroups
        group = root / path.strip("/")
        for folder in [group, *group.parents]:
            yield folder
            if folder == root:
                break


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
