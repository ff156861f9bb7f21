"""What the benchmarks share: whole commands timed, medians of pairs, and what machine this is."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any


def acga(*arguments: object) -> tuple[float, dict[str, Any]]:
    """Wall seconds of a command that must succeed, and the document that it printed."""
    started = time.monotonic()
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return time.monotonic() - started, json.loads(done.stdout)


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def paired(one: Callable[[], object], other: Callable[[], object], pairs: int) -> tuple[float, float]:
    """Median seconds of both, measured in turns after one call each that does not count."""
    one()
    other()
    times = [(seconds(one), seconds(other)) for _ in range(pairs)]
    return median(first for first, _ in times), median(second for _, second in times)


def machine() -> str:
    """Processor, cores and Python, in words."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}"
