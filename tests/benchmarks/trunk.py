"""How much faster our frozen I3D is than the plain port with the same weights, and how far its values lie from it.

    python tests/benchmarks/trunk.py [--json] [--pairs 5] [--pixels 512] [--threads 2]

One clip of 16 frames up to `mixed_4e`, weights random and calibrated (seed 0), full width. The port
(tests/i3d_port.py) has batch norm unfolded, contiguous memory, float32. Both run by turns, after one run each that does
not count; the table shows medians, the ratio being the median of the pairs' ratios. Where the processor computes
bfloat16 in software that takes a minute a clip, so it is measured at 128 pixels, once.

The clip is one of noise. How far bfloat16 lies from float32 is measured on real clips, too (../shared/real), of whose
errors the largest counts.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measured import machine
from real import REAL, clips, labelled
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))  # for the port
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a checkout that is not installed

from i3d_port import Port

from extractors.shards.float16 import to_float16, to_float32
from models.backbones.folded_batch_norm import fold_batch_norm
from models.backbones.i3d import I3D, to_unit_range
from models.backbones.initialisation import seed_i3d

TAP = "mixed_4e"
FRAMES = 16
EPS = 1e-5  # the authors'
SMALL_PIXELS = 128  # for bfloat16 in software
SPEEDS = {"float32": 1.15, "bfloat16": 4.0}
ERRORS: dict[str, tuple[float | None, str]] = {  # goal, and what it is
    "float32": (1e-5, "largest difference to the port / the port's largest value"),
    "stored float16": (5e-4, "the same of float32 features that were stored and read again"),
    "float16 rounding": (5e-4, "largest relative error by storing of a value of at least 2^-14 of the largest"),
    "bfloat16": (2e-2, "largest difference to the port / the port's largest value, real clips"),
    "bfloat16, noise": (None, "the same of the clip of noise"),
    "port's rounding": (None, "of the port itself in float32 to float64, as float32 above, 128 px"),
    "our rounding": (None, "of ours in float32 to the port in float64, 128 px"),
}
COSINE = 0.999
REAL_CLIPS = 5
SMALLEST_KEPT = 2.0**-14  # of the largest value: smaller ones may be subnormal in float16


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--pixels", type=int, default=512, help="side of the frames (default 512, as in the paper)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default 2)")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    result = measured(asked.pixels, asked.pairs)
    sys.stdout.write(json.dumps(result, indent=1) + "\n" if asked.json else table(result))


def measured(pixels: int, pairs: int) -> dict[str, Any]:
    """Return speeds, errors and whether the errors are within their bounds, by name."""
    i3d = I3D("rgb", EPS)
    seed_i3d(i3d, 0)
    port = Port(3, EPS).eval()
    port.load_state_dict(i3d.state_dict())
    hardware = bfloat16_in_hardware()
    exact, found, full = compared(port, i3d, clip(pixels), torch.float32, pairs)
    small = pixels if hardware else min(pixels, SMALL_PIXELS)
    plain_rough, rough, quick = compared(port, i3d, clip(small), torch.bfloat16, pairs if hardware else 0)
    real = [compared(port, i3d, images, torch.bfloat16, 0)[:2] for images in real_clips(small)]
    half, scale = to_float16(found.numpy(), "the benchmark's clip")
    stored = torch.from_numpy(to_float32(half, scale))
    kept = found > SMALLEST_KEPT * found.max()
    errors = {
        "float32": relative(found, exact),
        "stored float16": relative(stored, exact),
        "float16 rounding": ((stored - found)[kept] / found[kept]).abs().max().item(),
        **({"bfloat16": max(relative(ours, theirs) for theirs, ours in real)} if real else {}),
        "bfloat16, noise": relative(rough, plain_rough),
        **own_rounding(port, i3d),
    }
    return {
        "machine": f"{machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "bfloat16_in_hardware": hardware,
        "pairs": pairs,
        "speeds": {"float32": full, "bfloat16": quick},
        "errors": errors,
        "bfloat16_cosine": {
            **({"real clips": min(cosine(ours, theirs) for theirs, ours in real)} if real else {}),
            "noise": cosine(rough, plain_rough),
        },
    }


def compared(
    port: Port, i3d: I3D, images: Tensor, dtype: torch.dtype, pairs: int
) -> tuple[Tensor, Tensor, dict[str, float | int]]:
    """Return the port's features in float32, ours computed in `dtype`, and how long both take.

    Seconds are medians over the pairs that follow the runs which give the features; of those runs where there is none.
    """
    trunk = fold_batch_norm(i3d, dtype)
    theirs, ours = Timed(lambda: port(images, TAP)[TAP]), Timed(lambda: trunk.trunk(images, TAP).float())
    exact, found = theirs(), ours()
    for _ in range(pairs):
        theirs()
        ours()
    both = list(zip(theirs.seconds, ours.seconds, strict=True))[1 if pairs else 0 :]
    return (
        exact,
        found,
        {
            "pixels": images.shape[-1],
            "plain": median(one for one, _ in both),
            "ours": median(other for _, other in both),
            "ratio": median(one / other for one, other in both),
        },
    )


class Timed:
    """A computation without gradients and the seconds of each of its runs."""

    def __init__(self, work: Callable[[], Tensor]) -> None:
        self.work, self.seconds = work, list[float]()

    def __call__(self) -> Tensor:
        """Return what the computation gives."""
        begun = time.perf_counter()
        with torch.inference_mode():
            found = self.work()
        self.seconds.append(time.perf_counter() - begun)
        return found


def own_rounding(port: Port, i3d: I3D) -> dict[str, float]:
    """Return how far the port and ours, both in float32, lie from the port in float64."""
    images = clip(SMALL_PIXELS)
    with torch.inference_mode():
        exact = copy.deepcopy(port).double()(images.double(), TAP)[TAP]
        theirs, ours = port(images, TAP)[TAP], fold_batch_norm(i3d).trunk(images, TAP)
    return {"port's rounding": relative(theirs, exact), "our rounding": relative(ours, exact)}


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a share of the largest expected value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def cosine(found: Tensor, expected: Tensor) -> float:
    """Return the cosine of two sets of features."""
    return functional.cosine_similarity(found.double().flatten(), expected.double().flatten(), dim=0).item()


def real_clips(pixels: int) -> list[Tensor]:
    """Return some real clips as a trunk sees them; none where there are none."""
    if not REAL.is_dir():
        return []
    return [to_unit_range(torch.from_numpy(frames)[None]) for frames in clips(*labelled(REAL_CLIPS), pixels)]


def clip(pixels: int) -> Tensor:
    """Return a random clip with coarse and fine details, of 8-bit colours as videos have them."""
    generator, size = torch.Generator().manual_seed(0), (FRAMES, pixels, pixels)
    values = torch.zeros(1, 3, *size)
    for cells in (8, 32, pixels // 2):
        noise = torch.randn(1, 3, FRAMES // 4, cells, cells, generator=generator)
        values += functional.interpolate(noise, size=size, mode="trilinear", align_corners=False)
    colours = (values * 48 + 128).clamp(0, 255).to(torch.uint8)
    return to_unit_range(colours.movedim(1, -1))


def bfloat16_in_hardware() -> bool:
    """Return whether the processor multiplies bfloat16 matrices; elsewhere PyTorch does so in software."""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def table(result: dict[str, Any]) -> str:
    """Return the measurements as tables in Markdown."""
    lines = [result["machine"], "", f"| I3D to {TAP}, one clip of {FRAMES} frames | plain port | ours | ratio | goal |"]
    lines.append("|---|---|---|---|---|")
    for name, row in result["speeds"].items():
        software = name == "bfloat16" and not result["bfloat16_in_hardware"]
        goal = "in software: none" if software else f"{SPEEDS[name]:g}"
        sizes = f"{name}, {row['pixels']} px"
        lines.append(f"| {sizes} | {row['plain']:.2f} s | {row['ours']:.2f} s | {row['ratio']:.2f} | {goal} |")
    lines += ["", "| error | found | goal | what it is |", "|---|---|---|---|"]
    for name, error in result["errors"].items():
        goal, meaning = ERRORS[name]
        lines.append(f"| {name} | {error:.2e} | {verdict(error, goal)} | {meaning} |")
    for name, value in result["bfloat16_cosine"].items():
        reached = "met" if value > COSINE else "MISSED"
        lines.append(
            f"| bfloat16, cosine | {value:.5f} | > {COSINE} {reached} | of all features to the port's, {name} |"
        )
    if "bfloat16" not in result["errors"]:
        lines += ["", f"there are no real clips at {REAL}"]
    return "\n".join(lines) + "\n"


def verdict(error: float, goal: float | None) -> str:
    """Return the goal and whether an error meets it, in words."""
    return "" if goal is None else f"{goal:.0e} {'met' if error <= goal else 'MISSED'}"


if __name__ == "__main__":
    main()
