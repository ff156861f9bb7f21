"""The bytes that features take on disk: a labelled frame's and a sample's, on real clips at 512 pixels.

    python tests/benchmarks/disk.py [--json] [--clips 6] [--pixels 512] [--threads 2]

The clips are those around one labelled frame of each of some videos of ../shared/real (A2D's layout), decoded,
letterboxed, extracted by I3D at full width (random, calibrated weights of seed 0) and written as the stages do it.
The authors store a clip's features again for every sentence, float32 and uncompressed; A2D has 1.65 sentences a
labelled frame. A sample is its share of the features, one row of word vectors and one instance's masks, each with what
its shard holds besides (ids, digests).
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from measured import machine
from real import LENGTH, REAL, clips, labelled

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a checkout that is not installed

from data.letterbox import Letterbox
from data.masks import pyramid
from data.readers.a2d import read, read_instances
from data.records import Listing, Video
from extractors.shards.codecs import compressed_bytes
from extractors.shards.float16 import to_float16
from extractors.shards.shard import ShardReader, ShardWriter
from extractors.text.sentences import word_vectors
from extractors.visual import extract
from models.backbones.folded_batch_norm import fold_batch_norm
from models.backbones.i3d import I3D
from models.backbones.initialisation import seed_i3d

WORDS, WORD_DIM, THRESHOLD, EPS = 20, 300, 0.5, 1e-5
SENTENCES_A_FRAME = 1.65  # A2D's
GOALS = {"labelled frame": 3.0, "sample": 5.0}  # times less than theirs


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--clips", type=int, default=6, help="how many, each of another video (default 6)")
    parser.add_argument("--pixels", type=int, default=512, help="side of the frames (default 512, as in the paper)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default 2)")
    asked = parser.parse_args()
    if not REAL.is_dir():
        sys.stdout.write(f"bytes on disk: skipped, there are no real clips at {REAL}\n")
        return
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = measured(Path(folder), asked.clips, asked.pixels)
    sys.stdout.write(json.dumps(result, indent=1) + "\n" if asked.json else table(result))


def measured(folder: Path, count: int, pixels: int) -> dict[str, Any]:
    """Return bytes by name, ours and the authors', and how many times less ours are."""
    listing = read(REAL, "all", {})
    videos, numbers = labelled(count)
    frames = clips(videos, numbers, pixels)
    names = [f"{video.id}/{numbers[video.id]:05d}" for video in videos]
    trunk = seeded_trunk()
    shape = trunk.features_shape(LENGTH, pixels)
    write_features(folder / "visual.h5", names, frames, shape, trunk)
    write_masks(folder / "masks.h5", videos, numbers, pixels)
    write_words(folder / "text.h5", listing)
    visual = ShardReader(folder / "visual.h5")
    ours = {name: bytes_a_row(folder / f"{name}.h5") for name in ("visual", "text", "masks")}
    features, words = int(np.prod(shape)) * 4, WORDS * WORD_DIM * 4
    theirs = {"visual": features, "text": words, "masks": sum((pixels // cell) ** 2 for cell in (1, 4, 16))}
    sample = {"ours": ours["visual"] / SENTENCES_A_FRAME + ours["text"] + ours["masks"], "theirs": sum(theirs.values())}
    values = [visual.read("features", row) for row in range(len(visual))]
    return {
        "machine": machine(),
        "clips": names,
        "pixels": pixels,
        "codec": visual.codec("features"),
        "scales": [float(visual.read("scale", row)) for row in range(len(visual))],
        "zeros": mean(float((value == 0).mean()) for value in values),
        "bytes_a_frame": {codec: mean(compressed_bytes(value, codec) for value in values) for codec in CODECS},
        "ours": ours,
        "theirs": theirs,
        "sample": sample,
        "times_less": {
            "labelled frame": features / ours["visual"],
            "sample": sample["theirs"] / sample["ours"],
        },
        "frames_bytes": mean(compressed_bytes(clip, "zstd") for clip in frames),
    }


CODECS = ("none", "zstd", "shuffle+zstd")


def seeded_trunk() -> I3D:
    """Return the trunk as the stage VisualFeatures has it, with random weights."""
    i3d = I3D("rgb", EPS)
    seed_i3d(i3d, 0)
    return fold_batch_norm(i3d)


def write_features(
    path: Path, names: Sequence[str], frames: Sequence[np.ndarray], shape: tuple[int, ...], trunk: I3D
) -> None:
    """Write the features of clips as the stage VisualFeatures does."""
    arrays = {"features": (shape, np.float16), "scale": ((), np.float32)}
    load = partial(stacked, frames)
    batches = [[row] for row in range(len(names))]  # none may cross videos
    with ShardWriter(path, len(names), arrays, {"tap": trunk.tap}) as writer:
        for row, features in extract(trunk, load, batches, trunk.tap, 1):
            half, scale = to_float16(features, f"clip {names[row]}: features after {trunk.tap}")
            writer.write(row, names[row], features=half, scale=np.float32(scale))
            sys.stderr.write(f"clip {names[row]}: {row + 1} of {len(names)}\n")


def stacked(frames: Sequence[np.ndarray], rows: Sequence[int]) -> np.ndarray:
    """Return some of the clips."""
    return np.stack([frames[row] for row in rows])


def write_masks(path: Path, videos: Sequence[Video], numbers: dict[str, int], pixels: int) -> None:
    """Write the masks of every instance in the labelled frames as the stage Masks does."""
    rows = []
    for video in videos:
        (frame,) = (frame for frame in video.labelled if frame.number == numbers[video.id])
        found = read_instances(Path(frame.path), video.height, video.width)
        box = Letterbox(video.height, video.width, pixels)
        rows += [
            (f"{video.id}/{frame.number:05d}/{instance}", pyramid(mask, box, THRESHOLD))
            for instance, mask in zip(found.ids, found.masks, strict=True)
        ]
    sizes = {"large": pixels, "medium": pixels // 4, "small": pixels // 16}
    with ShardWriter(path, len(rows), {name: ((s, s), np.uint8) for name, s in sizes.items()}, {}) as writer:
        for row, (name, masks) in enumerate(rows):
            writer.write(row, name, large=masks.large, medium=masks.medium, small=masks.small)


def write_words(path: Path, listing: Listing) -> None:
    """Write vectors of all sentences as the stage TextFeatures does: random ones, which do not compress either."""
    found = word_vectors([query.text for query in listing.queries], "hash", WORD_DIM, WORDS, 0, "zero")
    with ShardWriter(path, len(listing.queries), {"words": ((WORDS, WORD_DIM), np.float32)}, {}) as writer:
        for row, query in enumerate(listing.queries):
            writer.write(row, query.id, words=found.values[row])


def bytes_a_row(path: Path) -> float:
    """Return the size of the whole file over its rows."""
    return path.stat().st_size / len(ShardReader(path))


def table(result: dict[str, Any]) -> str:
    """Return the measurements as a table in Markdown."""
    count = len(result["clips"])
    lines = [f"{count} real clips, {result['pixels']} px, codec {result['codec']}, {result['zeros']:.0%} zeros", ""]
    lines += ["| bytes on disk | authors' layout | ours | times less | goal |", "|---|---|---|---|---|"]
    ours, theirs, less = result["ours"], result["theirs"], result["times_less"]
    pairs = {
        "labelled frame": (theirs["visual"], ours["visual"]),
        "sample": (result["sample"]["theirs"], result["sample"]["ours"]),
    }
    for name, (before, after) in pairs.items():
        lines.append(
            f"| a {name} | {before:,} | {after:,.0f} | {less[name]:.2f} | {verdict(less[name], GOALS[name])} |"
        )
    for name, what in (("text", "word vectors of a sentence"), ("masks", "masks of an instance")):
        lines.append(f"| {what} | {theirs[name]:,} | {ours[name]:,.0f} | {theirs[name] / ours[name]:.2f} | |")
    sizes = ", ".join(f"{name} {size:,.0f}" for name, size in result["bytes_a_frame"].items())
    lines += ["", f"float16 features of a labelled frame, bytes by codec: {sizes}"]
    lines.append(
        f"frames of a clip, which the features are made of and which may be deleted: {result['frames_bytes']:,.0f}"
    )
    return "\n".join(lines) + "\n"


def verdict(found: float, goal: float) -> str:
    """Return the goal and whether it is met, in words."""
    return f"{goal:g} {'met' if found >= goal else 'MISSED'}"


if __name__ == "__main__":
    main()
