"""How much faster our frozen I3D is than the plain port with the same weights, and how far its values lie from it.

    python tests/benchmarks/trunk.py [--json] [--pairs 5] [--pixels 512] [--threads 2]

One clip of 16 frames up to `mixed_4e`, weights random and calibrated (seed 0), full width. The port
(tests/i3d_port.py) has batch norm unfolded, contiguous memory, float32. Both run by turns, after one run each that does
not count; the table shows medians, the ratio being the median of the pairs' ratios. Where the processor computes
bfloat16 in software that takes minutes, so it is measured at 128 pixels, with one pair. Exit code 1 where values lie
outside their bounds; speeds are reported.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measured import machine, seconds
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the port
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a checkout that is not installed

from i3d_port import Port

from extractors.halves import halved, restored
from models.folded import folded
from models.i3d import I3D, to_unit_range
from models.initialisation import seed_i3d

TAP = "mixed_4e"
FRAMES = 16
EPS = 1e-5  # the authors'
SMALL_PIXELS = 128  # for bfloat16 in software
SPEEDS = {"float32": 1.15, "bfloat16": 4.0}
BOUNDS = {"float32": 1e-5, "stored float16": 5e-4, "float16 rounding": 5e-4, "bfloat16": 2e-2}
MEANINGS = {
    "float32": "largest difference to the port / its largest value",
    "stored float16": "float32, stored and read again: largest difference to the port / its largest value",
    "float16 rounding": "stored against what was stored: largest relative error of a value of 2**-14 of the largest on",
    "bfloat16": "largest difference to the port / its largest value",
}
COSINE = 0.999
SMALLEST_KEPT = 2.0**-14  # of the largest value: smaller ones may be subnormal in float16


def main() -> int:
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
    return 0 if all(result["within"].values()) else 1


def measured(pixels: int, pairs: int) -> dict[str, Any]:
    """Return speeds, errors and whether the errors are within their bounds, by name."""
    i3d = I3D("rgb", EPS)
    seed_i3d(i3d, 0)
    port = Port(3, EPS).eval()
    port.load_state_dict(i3d.state_dict())
    in_hardware = bfloat16_in_hardware()
    rough_pixels = pixels if in_hardware else min(pixels, SMALL_PIXELS)
    speeds = {"float32": compared(port, i3d, pixels, torch.float32, pairs)}
    speeds["bfloat16"] = compared(port, i3d, rough_pixels, torch.bfloat16, pairs if in_hardware else 1)
    errors, cosine = accuracy(port, i3d, pixels, rough_pixels)
    within = {name: errors[name] <= bound for name, bound in BOUNDS.items()} | {"bfloat16 cosine": cosine > COSINE}
    return {
        "machine": f"{machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "bfloat16_in_hardware": in_hardware,
        "pairs": pairs,
        "speeds": speeds,
        "errors": errors,
        "bfloat16_cosine": cosine,
        "within": within,
    }


def compared(port: Port, i3d: I3D, pixels: int, dtype: torch.dtype, pairs: int) -> dict[str, float | int]:
    """Return the median seconds of the port in float32 and of ours in `dtype`, and the median of their ratios."""
    images, trunk = clip(pixels), folded(i3d).to("cpu", dtype)
    theirs, ours = partial(plain, port, images), partial(features, trunk, images.to(dtype))
    theirs()
    ours()
    both = [(seconds(theirs), seconds(ours)) for _ in range(pairs)]
    return {
        "pixels": pixels,
        "plain": median(one for one, _ in both),
        "ours": median(other for _, other in both),
        "ratio": median(one / other for one, other in both),
    }


def accuracy(port: Port, i3d: I3D, pixels: int, rough_pixels: int) -> tuple[dict[str, float], float]:
    """Return the errors that MEANINGS defines, and the cosine of the features in bfloat16 to those in float32."""
    images = clip(pixels)
    expected, found = plain(port, images), features(folded(i3d), images)
    half, scale = halved(found.numpy(), "the benchmark's clip")
    stored = torch.from_numpy(restored(half, scale))
    kept = found > SMALLEST_KEPT * found.max()
    images = clip(rough_pixels)
    exact, rough = plain(port, images), features(folded(i3d).to(torch.bfloat16), images.to(torch.bfloat16)).float()
    errors = {
        "float32": relative(found, expected),
        "stored float16": relative(stored, expected),
        "float16 rounding": ((stored - found)[kept] / found[kept]).abs().max().item(),
        "bfloat16": relative(rough, exact),
    }
    return errors, functional.cosine_similarity(rough.double().flatten(), exact.double().flatten(), dim=0).item()


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a share of the largest expected value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def plain(port: Port, images: Tensor) -> Tensor:
    """Return what the port makes of clips."""
    with torch.inference_mode():
        return port(images, TAP)[TAP]


def features(trunk: I3D, images: Tensor) -> Tensor:
    """Return what our trunk makes of clips, as `extractors.visual.extract` calls it."""
    with torch.inference_mode():
        return trunk.trunk(images, TAP)


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
        lines.append(f"| {name} | {error:.1e} | {BOUNDS[name]:.0e} | {MEANINGS[name]} |")
    cosine = result["bfloat16_cosine"]
    lines.append(f"| bfloat16 cosine | {cosine:.6f} | > {COSINE} | of all features to the port's |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
