"""Whether memory grows with the data set: the peak of extraction at 20 and 200 videos, of training at 1x and 8x.

    python tests/benchmarks/memory.py [--json] [--extraction 20 200] [--training 25 200] [--pixels 128] [--width 0.5]

Generated videos in one shard, the stages as `acga run` builds them, one worker; each in a process of its own, whose
peak resident memory its manifest tells. Training takes one epoch. "Data" is what a stage reads, uncompressed: held
whole it would show.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measured import acga, machine

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a checkout that is not installed

from extractors.shards.shard import ShardReader

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "tiny.toml"
GOAL = 0.10
MEBIBYTE = 2**20
EXTRACTION, TRAINING = ("Frames", "VisualFeatures"), ("TrainedModel",)
READS = {  # shards that a stage reads, or, where it reads raw files, writes
    "Frames": (("Frames", "frames.h5"),),
    "VisualFeatures": (("Frames", "frames.h5"),),
    "TrainedModel": (("VisualFeatures", "visual.h5"), ("Masks", "masks.h5"), ("TextFeatures", "text.h5")),
}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--extraction", type=int, nargs=2, default=(20, 200), metavar="N", help="videos, few and many")
    parser.add_argument("--training", type=int, nargs=2, default=(25, 200), metavar="N", help="videos, few and many")
    parser.add_argument("--pixels", type=int, default=128, help="side of the frames (default 128)")
    parser.add_argument("--width", type=float, default=0.5, help="share of I3D's channels (default 0.5)")
    parser.add_argument("--store", type=Path, help="keep artifacts there (default: a temporary folder)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(asked.store or Path(folder), asked)
    result = {"machine": machine(), "pixels": asked.pixels, "width": asked.width, "goal": GOAL, "stages": rows}
    sys.stdout.write(json.dumps(result, indent=1) + "\n" if asked.json else table(result))


def measured(store: Path, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each stage: its peak at few and at many videos, and the data that it reads."""
    runs = {
        videos: run(store, videos, "TrainedModel" if videos in asked.training else "VisualFeatures", asked)
        for videos in sorted({*asked.extraction, *asked.training})
    }
    rows = []
    for stages, (few, many) in ((EXTRACTION, asked.extraction), (TRAINING, asked.training)):
        for stage in stages:
            peaks = [peak(runs[videos][stage]) for videos in (few, many)]
            data = [sum(shard_bytes(runs[videos][of], file) for of, file in READS[stage]) for videos in (few, many)]
            rows.append(
                {
                    "stage": stage,
                    "videos": [few, many],
                    "peak_mib": peaks,
                    "data_mib": [round(size / MEBIBYTE) for size in data],
                    "growth": peaks[1] / peaks[0] - 1,
                }
            )
    return rows


def run(store: Path, videos: int, until: str, asked: argparse.Namespace) -> dict[str, list[Path]]:
    """Return the folders of the artifacts by stage, of the train set alone where a stage has one for each set."""
    changes = {
        "miniature.train_clips": videos,
        "miniature.test_clips": 1,
        "dataset.shards": 1,
        "frames.size": asked.pixels,
        "visual.width": asked.width,
        "training.epochs": 1,
    }
    sets = [argument for key, value in changes.items() for argument in ("--set", f"{key}={value}")]
    seconds, outcome = acga("run", CONFIG, "--store", store, "--until", until, "--workers", 1, "--json", *sets)
    sys.stderr.write(f"{videos} videos until {until}: {seconds:.0f} s\n")
    found = {stage: [Path(folder) for folder in folders] for stage, folders in outcome["artifacts"].items()}
    return {stage: [max(folders, key=size_of)] for stage, folders in found.items()}


def size_of(folder: Path) -> int:
    """Return the bytes of an artifact: of two sets' the train set's are more."""
    return int(manifest(folder)["cost"]["bytes"])


def peak(folders: Sequence[Path]) -> int:
    """Return the peak memory in MiB of the process that built an artifact."""
    (folder,) = folders
    return int(manifest(folder)["cost"]["peak_memory_mib"])


def manifest(folder: Path) -> dict[str, Any]:
    """Return what an artifact says of itself."""
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return found


def shard_bytes(folders: Sequence[Path], file: str) -> int:
    """Return the bytes of all rows of a shard, uncompressed."""
    (folder,) = folders
    (path,) = folder.rglob(file)
    reader = ShardReader(path)
    return sum(len(reader) * int(np.prod(reader.shape(name))) * reader.dtype(name).itemsize for name in reader.names)


def table(result: dict[str, Any]) -> str:
    """Return the measurements as a table in Markdown."""
    lines = [f"{result['machine']}, generated videos, {result['pixels']} px, I3D's width {result['width']:g}", ""]
    lines += ["| stage | videos | data, MiB | peak, MiB | growth | goal |", "|---|---|---|---|---|---|"]
    for row in result["stages"]:
        videos, data, peaks = (" -> ".join(map(str, row[key])) for key in ("videos", "data_mib", "peak_mib"))
        growth = f"{row['growth']:+.1%} | {result['goal']:.0%} {'met' if row['growth'] <= result['goal'] else 'MISSED'}"
        lines.append(f"| {row['stage']} | {videos} | {data} | {peaks} | {growth} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
