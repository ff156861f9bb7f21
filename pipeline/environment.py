"""What a result was computed with: recorded in manifests, never part of a key."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "av",
    "decord2",
    "h5py",
    "hdf5plugin",
    "luigi",
    "numpy",
    "opencv-python-headless",
    "pycocotools",
    "safetensors",
    "scipy",
    "torch",
)


@cache
def describe() -> dict[str, Any]:
    """Versions, processor and source revision of this process."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "revision": _revision(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _revision() -> str:
    """The git revision of the source files, with "+" where they were edited since; "" outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
