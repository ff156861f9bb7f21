"""Flow: the optical flow of each clip of a shard.

flow.h5   fields (T, S, S, 2) float16 a row, in [-1, 1]: displacements in letterboxed pixels, x and y, over the bound;
          ids are the clips'
"""

from __future__ import annotations

import numpy as np

from extractors.flow import flow_fields
from extractors.shards import ShardReader, ShardWriter
from pipeline.recipes.job import Job
from pipeline.recipes.units import joined
from pipeline.recipes.visual import rows_of_videos


def build(job: Job) -> None:
    """Compute clip by clip; the last field leads to the frame after the clip, or repeats where the video ends."""
    frames = ShardReader(job.folder("Frames") / "frames.h5")
    shape = (*frames.shape("frames")[:3], 2)
    with ShardWriter(job.out / "flow.h5", len(frames), {"fields": (shape, np.float16)}, {}) as writer:
        for video, rows in rows_of_videos(frames.ids).items():
            inputs = joined(bytes.fromhex(frames.row_digest(row)) for row in rows)
            clips = [frames.ids[row] for row in rows]
            taken = job.units.rows(video, inputs, "flow.h5", clips)
            digests = []
            for place, row in enumerate(rows):
                job.progress(row, len(frames))
                arrays = taken[place] if taken else {"fields": _fields(job, frames, row)}
                digests.append(writer.write(row, frames.ids[row], **arrays))
            job.units.record(video, inputs, digests)


def _fields(job: Job, frames: ShardReader, row: int) -> np.ndarray:
    section = job.sections["flow"]
    following = None if frames.read("ended", row) else frames.read("following", row)
    fields = flow_fields(frames.read("frames", row), following, section["method"], section["bound"])
    return fields.astype(np.float16)
