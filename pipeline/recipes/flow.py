"""Flow: the optical flow of each clip of a shard.

flow.h5   fields (T, S, S, 2) float16 a row, in [-1, 1]: displacements in letterboxed pixels, x and y, over the bound;
          ids are the clips'
"""

from __future__ import annotations

import numpy as np

from extractors.flow import flow_fields
from extractors.shards import ShardReader, ShardWriter
from pipeline.recipes.job import Job


def build(job: Job) -> None:
    """Compute clip by clip; the last field leads to the frame after the clip, or repeats where the video ends."""
    section = job.sections["flow"]
    frames = ShardReader(job.folder("Frames") / "frames.h5")
    shape = (*frames.shape("frames")[:3], 2)
    with ShardWriter(job.out / "flow.h5", len(frames), {"fields": (shape, np.float16)}, {}) as writer:
        for row, clip in enumerate(frames.ids):
            job.progress(row, len(frames))
            following = None if frames.read("ended", row) else frames.read("following", row)
            fields = flow_fields(frames.read("frames", row), following, section["method"], section["bound"])
            writer.write(row, clip, fields=fields.astype(np.float16))
