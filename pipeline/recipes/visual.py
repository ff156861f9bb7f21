"""VisualFeatures: the frozen trunk on every clip of a shard.

visual.h5   features (C, T/4, S/16, S/16) float16 a row: I3D after mixed_4e; ids are the clips'
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from extractors.shards import ShardReader, ShardWriter
from extractors.visual import extract
from models.folded import folded
from pipeline.recipes.compute import prepare
from pipeline.recipes.job import Job
from pipeline.recipes.weights import trunk

TAP = "mixed_4e"


def build(job: Job) -> None:
    """Extract video by video, in batches of a fixed size that never cross videos."""
    device, batch = prepare(job.sections["compute"]), job.sections["visual"]["batch"]
    i3d = folded(trunk(job)).to(device)
    frames = ShardReader(job.folder("Frames") / "frames.h5")
    length, size = frames.shape("frames")[:2]
    shape = (i3d.channels[TAP], length // 4, size // 16, size // 16)
    with ShardWriter(job.out / "visual.h5", len(frames), {"features": (shape, np.float16)}, {"tap": TAP}) as writer:
        for _, clips in groupby(enumerate(frames.ids), key=lambda clip: clip[1].rpartition("/")[0]):
            rows = list(clips)
            maps = extract(i3d, (frames.read("frames", row) for row, _ in rows), TAP, batch)
            for (row, clip), features in zip(rows, maps, strict=True):
                writer.write(row, clip, features=features)
                job.progress(row, len(frames))
