"""The stage Imported, which converts a folder in the authors' layout to the files of this project's stages.

The files are those of Samples, VisualFeatures, TextFeatures and Masks. A row of the folder is a sample, of which only
the size, features, word vectors and masks are known. Rows with equal features are taken as samples of one clip.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

import numpy as np

from extractors.authors.reader import ReferenceFolder
from extractors.shards.float16 import to_float16
from extractors.shards.sample_table import Sample
from extractors.shards.shard import ShardWriter
from pipeline.sections.section import Section
from pipeline.stages.support.job import Job
from pipeline.stages.support.truth import FrameTruth

RESOLUTIONS = ("large", "medium", "small")


class Settings(Section):
    """The sections that this stage reads: none."""


class ImportedFile(TypedDict):
    """A file of the folder."""

    name: str
    path: str
    sha256: str


class Records(TypedDict):
    """The files of a folder, and the split and the stream of its features."""

    split: str
    stream: str
    files: list[ImportedFile]


def build(job: Job[Settings, Records]) -> None:
    """Write features in float16, once for all rows that share them, and word vectors and masks row by row."""
    split = job.records["split"]
    folder = ReferenceFolder(Path(job.records["files"][0]["path"]).parent, job.records["stream"])
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
    frames: dict[str, FrameTruth] = {}
    samples: list[Sample] = []
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


def _write_features(
    job: Job[Settings, Records], folder: ReferenceFolder, split: str, first: list[int], clips: list[str]
) -> None:
    arrays = {"features": (folder.features_shape, np.float16), "scale": ((), np.float32)}
    with ShardWriter(job.out / "visual.h5", len(first), arrays, {"tap": "imported"}) as writer:
        for place, (row, clip) in enumerate(zip(first, clips, strict=True)):
            half, scale = to_float16(folder.features(split, row), f"row {row} of {split}: its features")
            writer.write(place, clip, features=half, scale=np.float32(scale))
            job.progress(place, len(first))
