"""A description of the computing environment. It is recorded in manifests and is never part of a key."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from extractors.cores import usable_cores
from pipeline.store.artifact import sha256

ROOT = Path(__file__).resolve().parents[2]
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
BUNDLING = ("av", "decord2", "opencv-python-headless")  # wheels that bundle decoder libraries
VECTOR_FLAGS = ("avx", "amx", "fma", "sse4")
VARIABLES = ("CUBLAS", "CUDA", "KMP_", "MKL", "NVIDIA_TF32", "OMP_", "ONEDNN", "OPENBLAS", "TORCH_")


@cache
def describe() -> dict[str, Any]:
    """Return the package versions, processor, GPU driver, environment variables and source revision of this process."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages(),
        "constraints": sha256(ROOT / "constraints.txt"),
        "libraries": {name: _libraries(name) for name in BUNDLING},
        "cpu": _of_cpu("model name"),
        "cpu_flags": sorted(flag for flag in _of_cpu("flags").split() if flag.startswith(VECTOR_FLAGS)),
        "cores": usable_cores(),
        "gpu": _gpu(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)},
        "revision": _revision(),
    }


def packages() -> dict[str, str]:
    """Return the versions of the packages on which results may depend."""
    return {name: metadata.version(name) for name in PACKAGES}


def _libraries(package: str) -> str:
    """Return a digest of the shared libraries that a wheel bundles, from the hashes in its RECORD file."""
    listed = (metadata.distribution(package).read_text("RECORD") or "").splitlines()
    return hashlib.sha256("\n".join(sorted(line for line in listed if ".so" in line)).encode()).hexdigest()


def _of_cpu(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _gpu() -> str:
    """Return the version line of the NVIDIA driver, or "" if there is none."""
    try:
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except OSError:
        return ""


def _revision() -> str:
    """Return the git revision of the source files, with "+" if they have local changes; "" outside a checkout."""
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
