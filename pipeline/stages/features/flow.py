"""The stage Flow, which computes the optical flow of each clip of a shard.

flow.h5   one row per clip: fields (T, S, S, 2) float16 in [-1, 1], the x and y displacements in letterboxed pixels,
          divided by flow.bound; the row ids are those of the clips
"""

from __future__ import annotations

import numpy as np

from extractors.shards.shard import ShardReader, ShardWriter
from extractors.video.flow import flow_fields
from pipeline.sections.features.flow import FlowSection
from pipeline.sections.section import Section
from pipeline.stages.features.visual import rows_of_videos
from pipeline.stages.support.job import Job
from pipeline.stages.support.units import joined


class Settings(Section):
    """The sections that this stage reads."""

    flow: FlowSection


def build(job: Job[Settings, None]) -> None:
    """Compute the flow clip by clip and write flow.h5.

    The last field of a clip leads to the frame after the clip; where the video ends, the field before it is repeated.
    """
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
                arrays = taken[place] if taken else {"fields": _fields(job.settings.flow, frames, row)}
                digests.append(writer.write(row, frames.ids[row], **arrays))
            job.units.record(video, inputs, digests)


def _fields(section: FlowSection, frames: ShardReader, row: int) -> np.ndarray:
    following = None if frames.read("ended", row) else frames.read("following", row)
    fields = flow_fields(frames.read("frames", row), following, section.method, section.bound)
    return fields.astype(np.float16)
