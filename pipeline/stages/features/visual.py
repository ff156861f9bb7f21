"""The stage VisualFeatures, which applies the frozen trunk to every clip of a shard.

visual.h5   one row per clip: features (C, T, S/16, S/16) float16, divided by scale (a power of two, mostly 1). They are
            the output of I3D after mixed_4e, with T a quarter of the clip's frames; or of a ResNet before its last
            block of layer3, with T the number of its input frames. The row ids are those of the clips
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float32

from extractors.shards.float16 import to_float16
from extractors.shards.shard import ShardReader, ShardWriter
from extractors.visual import batches_of, extract
from models.backbones.backbone import Backbone
from models.backbones.folded_batch_norm import fold_batch_norm
from pipeline.sections.compute import ComputeSection
from pipeline.sections.features.visual import ExtractionSection
from pipeline.sections.section import Section
from pipeline.stages.support.compute import prepare
from pipeline.stages.support.job import Job, StreamRecords
from pipeline.stages.support.units import Arrays, joined
from pipeline.stages.support.weights import trunk

SOURCES = {"rgb": ("Frames", "frames.h5", "frames"), "flow": ("Flow", "flow.h5", "fields")}


class Settings(Section):
    """The sections that this stage reads."""

    compute: ComputeSection
    visual: ExtractionSection


def build(job: Job[Settings, StreamRecords]) -> None:
    """Extract features in batches of a fixed size that never cross videos; reuse those of unchanged videos."""
    device, visual, stream = prepare(job.settings.compute), job.settings.visual, job.records["stream"]
    given = trunk(visual, stream, job.files, job.inputs)
    job.notes["weights"] = given.weights
    video = fold_batch_norm(given.video, getattr(torch, visual.compute)).to(device)
    stage, file, array = SOURCES[stream]
    source = ShardReader(job.folder(stage) / file)
    videos = rows_of_videos(source.ids)
    inputs = {name: joined(bytes.fromhex(source.row_digest(row)) for row in rows) for name, rows in videos.items()}
    compute = Compute(video, partial(source.read_many, array), visual.batch)
    changed = compute.begin([rows for name, rows in videos.items() if not job.units.unchanged(name, inputs[name])])
    arrays = {"features": (video.features_shape(*source.shape(array)[:2]), np.float16), "scale": ((), np.float32)}
    with ShardWriter(job.out / "visual.h5", len(source), arrays, {"tap": video.tap}) as writer:
        for name, rows in videos.items():
            clips = [source.ids[row] for row in rows]
            if job.units.unchanged(name, inputs[name]):
                taken = job.units.rows(name, inputs[name], "visual.h5", clips)
                made = compute.begin([rows])
                found = taken or [stored(next(made), clip, video.tap) for clip in clips]
            else:
                found = [stored(next(changed), clip, video.tap) for clip in clips]
            digests = [writer.write(row, clip, **each) for row, clip, each in zip(rows, clips, found, strict=True)]
            job.units.record(name, inputs[name], digests)
            job.progress(rows[-1], len(source))


@dataclass(frozen=True)
class Compute:
    """The extraction of features by a trunk from rows of a shard, in batches of `batch` clips."""

    video: Backbone
    load: Callable[[Sequence[int]], np.ndarray]
    batch: int

    def begin(self, videos: Sequence[Sequence[int]]) -> Iterator[Float32[np.ndarray, "c t s2 s2"]]:
        """Return an iterator over the features of the rows of some videos, one row at a time."""
        batches = [batch for rows in videos for batch in batches_of(rows, self.batch)]
        return (features for _, features in extract(self.video, self.load, batches, self.video.tap, self.batch))


def stored(features: np.ndarray, clip: str, tap: str) -> Arrays:
    """Return the arrays of a row: the features in float16 and their scale. Raises FeatureOutOfRange."""
    half, scale = to_float16(features, f"clip {clip}: features after {tap}")
    return {"features": half, "scale": np.float32(scale)}


def rows_of_videos(clips: Sequence[str]) -> dict[str, list[int]]:
    """Return the rows of each video's clips, in order."""
    videos: dict[str, list[int]] = {}
    for row, clip in enumerate(clips):
        videos.setdefault(clip.rpartition("/")[0], []).append(row)
    return videos
