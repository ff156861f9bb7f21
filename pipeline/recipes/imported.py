"""Imported: the samples of a folder in the authors' layout, as if they came from Samples, features and masks of ours.

A row is a sample and nothing is known of it but its size, features, word vectors and masks: rows with equal features
are of one clip. The files are those of Samples, VisualFeatures, TextFeatures and Masks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from extractors.halves import halved
from extractors.reference_reader import ReferenceFolder
from extractors.shards import ShardWriter
from pipeline.recipes.job import Job

RESOLUTIONS = ("large", "medium", "small")


def build(job: Job) -> None:
    """Store features once for all rows that share them, in float16; words and masks row by row."""
    records = job.members["records"]
    folder, split = ReferenceFolder(Path(records["files"][0]["path"]).parent, records["stream"]), records["split"]
    rows = folder.rows(split)
    first, which = folder.distinct_features(split)
    clips = [f"{split}-{row:06d}/00000" for row in first]
    _write_features(job, folder, split, first, clips)
    with ShardWriter(job.out / "text.h5", rows, {"words": (folder.words_shape, np.float32)}, {}) as writer:
        for row in range(rows):
            writer.write(row, f"{row:06d}", words=folder.words(split, row))
    sides = {name: folder.mask_side(name) for name in RESOLUTIONS}
    arrays = {name: ((side, side), np.uint8) for name, side in sides.items()}
    with ShardWriter(job.out / "masks.h5", rows, arrays, {}) as writer:
        for row in range(rows):
            masks = {name: folder.mask(split, name, row) for name in RESOLUTIONS}
            writer.write(row, f"{clips[which[row]]}/{row}", **masks)
            job.progress(row, rows)
    frames: dict[str, Any] = {}
    samples = []
    for row, described in enumerate(folder.samples(split)):
        clip = clips[which[row]]
        frame = frames.setdefault(clip, {"height": described.height, "width": described.width, "instances": {}})
        frame["instances"][str(row)] = {"mask": None, "label": None}
        samples.append(
            {
                "id": f"{described.name}@{row:06d}",
                "clip": clip,
                "query": f"{row:06d}",
                "text": None,
                "mask": f"{clip}/{row}",
                "shown": True,
                "shard": 0,
                "group": "",
            }
        )
    documents = {
        "samples.json": {"samples": samples, "rules": {}, "quarantined": {}},
        "truth.json": {"clips": frames, "rules": {}},
        "text.json": {"missing": None, "words": None, "truncated": None},
    }
    for name, document in documents.items():
        (job.out / name).write_text(json.dumps(document, indent=1), encoding="utf-8")


def _write_features(job: Job, folder: ReferenceFolder, split: str, first: list[int], clips: list[str]) -> None:
    arrays = {"features": (folder.features_shape, np.float16), "scale": ((), np.float32)}
    with ShardWriter(job.out / "visual.h5", len(first), arrays, {"tap": "imported"}) as writer:
        for place, (row, clip) in enumerate(zip(first, clips, strict=True)):
            half, scale = halved(folder.features(split, row), f"row {row} of {split}: its features")
            writer.write(place, clip, features=half, scale=np.float32(scale))
            job.progress(place, len(first))
