"""Features in shards: how fast a training epoch reads them in random order, and the bytes a row of each codec."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from measured import machine, seconds
from scipy.ndimage import gaussian_filter

from extractors.shards.codecs import compressed_bytes
from extractors.shards.float16 import to_float16
from extractors.shards.samples import StoredSamples
from extractors.shards.shard import ShardReader, ShardWriter, read_rows

SHAPE = (528, 4, 32, 32)  # I3D after mixed_4e, 16 frames of 512 px
MASKS = {"small": (32, 32), "medium": (128, 128), "large": (512, 512)}
WORDS = (20, 300)
DISTINCT = 8  # rows made; the others are these with their channels rolled
GOAL = 200.0  # MB/s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=3)
    parser.add_argument("--rows", type=int, default=16, help="clips a shard")
    parser.add_argument("--batch", type=int, default=8, help="clips a batch")
    parser.add_argument("--epochs", type=int, default=5, help="of which the median counts, after one that does not")
    parser.add_argument("--json", action="store_true", help="print one document instead of the table")
    asked = parser.parse_args()
    made = [rectified(np.random.default_rng(number)) for number in range(DISTINCT)]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), made, asked.shards, asked.rows)
        speed = epoch(Path(folder), asked.shards, asked.batch, asked.epochs)
        codec = ShardReader(Path(folder) / "visual0.h5").codec("features")
    document: dict[str, Any] = {
        "machine": machine(),
        "megabytes_a_second": speed,
        "goal": GOAL,
        "codec": codec,
        "bytes_a_row": codecs(made),
    }
    print(json.dumps(document) if asked.json else table(document))


def epoch(folder: Path, shards: int, batch: int, epochs: int) -> dict[str, float]:
    """Decompressed MB/s of float16 features, read once in random order over all shards: row by row through HDF5 and by
    direct chunks, whole batches in threads, and those with their words and masks. Files are in the page cache."""
    readers = [ShardReader(folder / f"visual{shard}.h5") for shard in range(shards)]
    stored = StoredSamples(
        [
            {"shard": shard, "clip": clip, "query": "0", "shown": True, "mask": clip}
            for shard, reader in enumerate(readers)
            for clip in reader.ids
        ],
        ShardReader(folder / "text.h5"),
        readers,
        [ShardReader(folder / f"masks{shard}.h5") for shard in range(shards)],
    )
    places = [(reader, row) for reader in readers for row in range(len(reader))]
    order = np.random.default_rng(0).permutation(len(places)).tolist()
    batches = [order[first : first + batch] for first in range(0, len(order), batch)]
    reads: dict[str, Callable[[Sequence[int]], object]] = {
        "row by row, HDF5 alone": lambda chosen: np.stack(
            [reader.read("features", row) for reader, row in map(places.__getitem__, chosen)]
        ),
        "row by row, direct chunks": lambda chosen: np.concatenate(
            [reader.read_many("features", [row]) for reader, row in map(places.__getitem__, chosen)]
        ),
        "batches, direct, threads": lambda chosen: read_rows("features", [places[place] for place in chosen]),
        "whole training batches": stored.batch,
    }
    times: dict[str, list[float]] = {name: [] for name in reads}
    for _ in range(1 + epochs):
        for name, read in reads.items():  # in turns
            times[name].append(sum(seconds(lambda read=read, chosen=chosen: read(chosen)) for chosen in batches))
    size = len(places) * int(np.prod(SHAPE)) * 2 / 1e6
    return {name: size / median(taken[1:]) for name, taken in times.items()}


def codecs(rows: Iterable[np.ndarray]) -> dict[str, float]:
    """Mean bytes of a row of float32 features: as they are, and as each type and codec stores them."""
    sizes: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        half, _ = to_float16(row, f"row {number}")
        for dtype, value in (("float32", row), ("float16", half)):
            for codec in ("none", "zstd", "shuffle+zstd"):
                sizes.setdefault(f"{dtype} {codec}", []).append(compressed_bytes(value, codec))
    return {name: sum(found) / len(found) for name, found in sizes.items()}


def rectified(rng: np.random.Generator) -> np.ndarray:
    """Features like those after a rectifier: smooth over the frame, half zeros to nearly all, channel by channel."""
    smooth = gaussian_filter(rng.standard_normal(SHAPE, np.float32), (0, 0.7, 1.2, 1.2))
    threshold = rng.uniform(0, 1.5, (SHAPE[0], 1, 1, 1)).astype(np.float32)
    return np.maximum(smooth / smooth.std() - threshold, 0)


def write(folder: Path, made: Sequence[np.ndarray], shards: int, rows: int) -> None:
    with ShardWriter(folder / "text.h5", 1, {"words": (WORDS, np.float32)}, {}) as writer:
        writer.write(0, "0", words=np.ones(WORDS, np.float32))
    masks = {name: np.zeros(size, np.uint8) for name, size in MASKS.items()}
    for mask in masks.values():
        mask[len(mask) // 4 : len(mask) // 2, len(mask) // 3 : len(mask) // 2] = 1
    for shard in range(shards):
        features = {"features": (SHAPE, np.float16), "scale": ((), np.float32)}
        with (
            ShardWriter(folder / f"visual{shard}.h5", rows, features, {}) as visual,
            ShardWriter(
                folder / f"masks{shard}.h5", rows, {name: (size, np.uint8) for name, size in MASKS.items()}, {}
            ) as instances,
        ):
            for row in range(rows):
                number = shard * rows + row
                half, scale = to_float16(np.roll(made[number % len(made)], number, 0), f"row {number}")
                visual.write(row, f"{shard}/{row}", features=half, scale=np.float32(scale))
                instances.write(row, f"{shard}/{row}", **masks)


def table(document: dict[str, Any]) -> str:
    lines = [f"features {SHAPE} in shards, {document['machine']}"]
    for name, rate in document["megabytes_a_second"].items():
        lines.append(f"{name:25} {rate:8.0f} MB/s of float16 (goal {document['goal']:.0f})")
    lines.append(f"{'codec chosen':25} {document['codec']}")
    whole = document["bytes_a_row"]["float32 none"]
    for name, size in document["bytes_a_row"].items():
        lines.append(f"{name:25} {size:10.0f} bytes a row, {whole / size:5.2f} times less than float32")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
