"""Whether the network computes, trains and resumes on a GPU as it does on a CPU, and how fast it is there.

    python tests/gpu_check.py [--device cuda] [--pairs 5] [--pixels 512] [--tiny]

Nothing is installed, downloaded or read but this checkout. The network in both modes against itself in float64 on the
CPU; an epoch of a small miniature from features, in float32 and bfloat16; training that stops and goes on against
training in one go, bit by bit; and the table of tests/benchmarks/network.py. Exit code 1 where something does not hold
or there is no such device. `--device cpu --tiny` tries the script itself.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a checkout that is not installed

import gpu_parity
import gpu_training
import torch
from gpu_parity import Finding

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "network.py"


def main() -> int:
    """Run all parts, print what they find, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="where to run (default cuda)")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each mode in the benchmark (default 5; 0: none)")
    parser.add_argument("--pixels", type=int, default=512, help="side of the benchmark's frames (default 512)")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and data, to try this script")
    arguments = parser.parse_args()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with it, if set before use
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        say(f"no CUDA device: nothing was checked (torch {torch.__version__})")
        return 1
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    say(f"{name}, torch {torch.__version__}, Python {sys.version.split()[0]}")
    network = gpu_parity.TINY if arguments.tiny else gpu_parity.FULL
    data = gpu_training.TINY if arguments.tiny else gpu_training.FULL
    parts: dict[str, Callable[[], Iterator[Finding]]] = {
        "parity with float64 on the CPU": lambda: gpu_parity.parity(network, device),
        "training and exact resume on the miniature": lambda: gpu_training.training(data, device),
    }
    if arguments.pairs:
        parts["speed"] = lambda: speed(device, arguments.pairs, arguments.pixels)
    failures = sum(run(title, part) for title, part in parts.items())
    say("everything holds" if not failures else f"{failures} findings are not as they should be")
    return int(failures > 0)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(title: str, part: Callable[[], Iterator[Finding]]) -> int:
    """Print what a part finds and return how much of it is wrong; an error ends the part alone."""
    say(f"\n{title}")
    begun, failures = time.perf_counter(), 0
    try:
        for finding in part():
            failures += not finding.holds
            say(f"  {'' if finding.holds else 'WRONG: '}{finding.text}")
    except Exception:  # whatever it is, it is shown and counted, and the other parts still run
        failures += 1
        say(f"  WRONG: it ended with an error\n{traceback.format_exc()}")
    say(f"  ({time.perf_counter() - begun:.0f} s)")
    return failures


def speed(device: torch.device, pairs: int, pixels: int) -> Iterator[Finding]:
    """Run the benchmark of the network in a process of its own."""
    script = [sys.executable, str(BENCHMARK), "--json"]
    settings = ["--device", str(device), "--pairs", str(pairs), "--pixels", str(pixels)]
    ran = subprocess.run([*script, *settings], check=True, stdout=subprocess.PIPE, timeout=400)
    result = json.loads(ran.stdout)
    for name, row in result["times"].items():
        (one, before), (other, after) = [(key, value) for key, value in row.items() if key not in ("ratio", "pixels")]
        text = f"{one} {1000 * before:.1f} ms, {other} {1000 * after:.1f} ms, ratio {row['ratio']:.2f}"
        yield Finding(f"{name}, {row['pixels']} px: {text}")
    peaks = [f"{mode} {mebibytes} MiB" for mode, mebibytes in result["training_peak_mib"].items()]
    yield Finding(f"peak memory of a training step: {', '.join(peaks)}")


if __name__ == "__main__":
    sys.exit(main())
