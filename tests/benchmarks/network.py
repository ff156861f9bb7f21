"""How much faster the network's default mode is than its plain one, and how much less memory it takes.

    python tests/benchmarks/network.py [--json] [--pairs 7] [--pixels 512] [--device cpu]

Both modes run by turns, after one run each that does not count; the table shows medians. Memory is the peak of a
process that takes one training step. In bfloat16 the default mode runs under autocast, against the plain mode in
float32; where the processor computes bfloat16 in software that takes minutes, so it is measured at 128 pixels.
"""

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a checkout that is not installed

from models import acga
from models.backbones.i3d import I3D
from models.layers import Mode
from models.losses import Targets, response_losses

WORDS, WORD_DIM, CHANNELS, WIDTHS = 20, 300, (256, 128), (256, 128, 64)
SMALL_PIXELS = 128  # for bfloat16 in software
SENTENCES = 4
KIBIBYTE = 1024


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--pairs", type=int, default=7, help="runs of each mode (default 7)")
    parser.add_argument("--pixels", type=int, default=512, help="side of the frames (default 512, as in the paper)")
    parser.add_argument("--device", default="cpu", help="where to run (default cpu)")
    parser.add_argument("--threads", type=int, default=None, help="threads on the CPU (default PyTorch's)")
    parser.add_argument("--peak", choices=("fast", "plain"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if arguments.peak:
        sys.stdout.write(json.dumps(peak(arguments.peak, arguments.pixels, device)))
        return
    result = {"machine": machine(device), "pixels": arguments.pixels, "pairs": arguments.pairs}
    result |= measured(arguments.pixels, arguments.pairs, device, arguments.threads)
    sys.stdout.write(json.dumps(result, indent=1) + "\n" if arguments.json else table(result))


def measured(pixels: int, pairs: int, device: torch.device, threads: int | None) -> dict[str, Any]:
    """Return every measurement by its name: seconds of both modes, their ratio, and memory."""
    rows: dict[str, Any] = {}
    for name, run in (("inference", predict), ("training step", train)):
        rows[f"{name}, float32"] = compared(Bench(pixels, device), run, run, pairs)
        in_hardware = device.type != "cpu" or bfloat16_in_hardware()
        rough = Bench(pixels if in_hardware else min(pixels, SMALL_PIXELS), device)
        rows[f"{name}, bfloat16"] = compared(rough, run, under_autocast(run, device), pairs if in_hardware else 1)
    bench = Bench(pixels, device)
    rows[f"{SENTENCES} sentences on a clip"] = shared(bench, pairs)
    return {"times": rows, "training_peak_mib": {mode: peak_of(mode, pixels, device, threads) for mode in MODES}}


MODES: tuple[Mode, ...] = ("plain", "fast")


class Bench:
    """A network of the paper's size, with random weights and inputs."""

    def __init__(self, pixels: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        self.model = acga.build(I3D("rgb", 1e-3), WORD_DIM, CHANNELS, WIDTHS, True, "authors", generator).to(device)
        cells = pixels // 16
        self.pixels, self.device = pixels, device
        self.features = torch.randn(1, 528, 4, cells, cells, generator=generator).relu().to(device)
        self.words = torch.randn(SENTENCES, WORDS, WORD_DIM, generator=generator).to(device)
        sides = (cells, 4 * cells, 16 * cells)
        masks = [torch.randint(0, 2, (1, side, side), generator=generator, dtype=torch.uint8) for side in sides]
        self.targets = Targets(*(mask.to(device) for mask in masks))
        trained = [parameter for _, parameter in self.model.trained_parameters()]
        self.optimiser = torch.optim.Adam(trained, lr=5e-4, fused=True)


def predict(bench: Bench, sentences: slice = slice(1)) -> None:
    """Predict the masks of some sentences on the clip."""
    words = bench.words[sentences]
    with torch.inference_mode():
        bench.model.eval()(bench.features, words, torch.zeros(len(words), dtype=torch.int64, device=bench.device))


def train(bench: Bench) -> None:
    """Take a training step on one sample."""
    responses = bench.model.train()(bench.features, bench.words[:1])
    bench.optimiser.zero_grad()
    response_losses(responses, bench.targets, 1.5).sum().backward()
    bench.optimiser.step()


def under_autocast(run: Callable[[Bench], None], device: torch.device) -> Callable[[Bench], None]:
    """Return a run that computes in bfloat16."""

    def rough(bench: Bench) -> None:
        with torch.autocast(device.type, torch.bfloat16):
            run(bench)

    return rough


def compared(
    bench: Bench, plain: Callable[[Bench], None], fast: Callable[[Bench], None], pairs: int
) -> dict[str, float | int]:
    """Return the median seconds of the plain and of the default mode, and the median of their ratios."""

    def pair() -> tuple[float, float]:
        bench.model.mode = "plain"
        of_plain = seconds(plain, bench)
        bench.model.mode = "fast"
        return of_plain, seconds(fast, bench)

    pair()
    return summary([pair() for _ in range(pairs)], "plain", "fast") | {"pixels": bench.pixels}


def shared(bench: Bench, pairs: int) -> dict[str, float | int]:
    """Return the seconds of several sentences on a clip one by one and together."""

    def apart(bench: Bench) -> None:
        for index in range(SENTENCES):
            predict(bench, slice(index, index + 1))

    def together(bench: Bench) -> None:
        predict(bench, slice(SENTENCES))

    both = [(seconds(apart, bench), seconds(together, bench)) for _ in range(pairs + 1)]
    return summary(both[1:], "apart", "together") | {"pixels": bench.pixels}


def summary(both: list[tuple[float, float]], first: str, second: str) -> dict[str, float | int]:
    """Return the medians of pairs of seconds and of their ratios."""
    ratios = [one / other for one, other in both]
    firsts, seconds = zip(*both, strict=True)
    return {first: statistics.median(firsts), second: statistics.median(seconds), "ratio": statistics.median(ratios)}


def seconds(run: Callable[[Bench], None], bench: Bench) -> float:
    """Return how long a run takes."""
    begun = time.perf_counter()
    run(bench)
    if bench.device.type == "cuda":
        torch.cuda.synchronize(bench.device)
    return time.perf_counter() - begun


def peak_of(mode: Mode, pixels: int, device: torch.device, threads: int | None) -> int:
    """Return the peak memory in MiB of a process that takes one training step in a mode."""
    command = [sys.executable, __file__, "--peak", mode, "--pixels", str(pixels), "--device", str(device)]
    command += [] if threads is None else ["--threads", str(threads)]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def peak(mode: Mode, pixels: int, device: torch.device) -> int:
    """Return the peak memory of this process (or of the GPU) in MiB after one training step in a mode."""
    bench = Bench(pixels, device)
    bench.model.mode = mode
    train(bench)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // KIBIBYTE**2
    # not ru_maxrss, in which a child starts from its parent's
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(peak) // KIBIBYTE


def bfloat16_in_hardware() -> bool:
    """Return whether the processor multiplies bfloat16 matrices; elsewhere PyTorch does so in software."""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def machine(device: torch.device) -> str:
    """Return what this runs on, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    names = [line.partition(":")[2].strip() for line in cpu_lines() if line.startswith("model name")]
    units = "AMX" if torch.cpu._is_amx_tile_supported() else torch.backends.cpu.get_cpu_capability()
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {units}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def cpu_lines() -> list[str]:
    """Return what Linux says about the processor."""
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def table(result: dict[str, Any]) -> str:
    """Return the measurements as a table in Markdown."""
    lines = [result["machine"], "", "| one sample, medians | plain | default | ratio |", "|---|---|---|---|"]
    for name, row in result["times"].items():
        first, second = (value for key, value in row.items() if key not in ("ratio", "pixels"))
        kind = "" if "plain" in row else " (one by one, together)"
        lines.append(f"| {name}, {row['pixels']} px{kind} | {first:.2f} s | {second:.2f} s | {row['ratio']:.2f} |")
    plain, fast = (result["training_peak_mib"][mode] for mode in MODES)
    lines.append(f"| peak memory of a training step | {plain} MiB | {fast} MiB | {plain - fast} MiB less |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
