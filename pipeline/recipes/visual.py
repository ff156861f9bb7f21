"""VisualFeatures: the frozen trunk on every clip of a shard.

visual.h5   features (C, T, S/16, S/16) float16 a row, divided by scale (a power of two, mostly 1): I3D after mixed_4e,
            T a quarter of the clip's frames; or a ResNet before its last block of layer3, T the frames it sees; ids are
            the clips'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float32

from extractors.halves import halved
from extractors.shards import ShardReader, ShardWriter
from extractors.visual import batches_of, extract
from models.backbones import Backbone
from models.folded import folded
from pipeline.recipes.compute import prepare
from pipeline.recipes.job import Job
from pipeline.recipes.units import Arrays, joined
from pipeline.recipes.weights import trunk

SOURCES = {"rgb": ("Frames", "frames.h5", "frames"), "flow": ("Flow", "flow.h5", "fields")}


def build(job: Job) -> None:
    """Extract in batches of a fixed size that never cross videos; those of unchanged videos are taken over."""
    device, visual, stream = prepare(job.sections["compute"]), job.sections["visual"], job.members["records"]["stream"]
    video = folded(trunk(job, stream), getattr(torch, visual["compute"])).to(device)
    stage, file, array = SOURCES[stream]
    source = ShardReader(job.folder(stage) / file)
    videos = rows_of_videos(source.ids)
    inputs = {name: joined(bytes.fromhex(source.row_digest(row)) for row in rows) for name, rows in videos.items()}
    compute = Compute(video, partial(source.read_many, array), visual["batch"])
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
    """Extraction with a trunk from rows of a shard, so many clips at a time."""

    video: Backbone
    load: Callable[[Sequence[int]], np.ndarray]
    batch: int

    def begin(self, videos: Sequence[Sequence[int]]) -> Iterator[Float32[np.ndarray, "c t s2 s2"]]:
        """The features of the rows of some videos, one by one."""
        batches = [batch for rows in videos for batch in batches_of(rows, self.batch)]
        return (features for _, features in extract(self.video, self.load, batches, self.video.tap, self.batch))


def stored(features: np.ndarray, clip: str, tap: str) -> Arrays:
    """The arrays of a row: float16 and the scale. Raises FeatureOutOfRange."""
    half, scale = halved(features, f"clip {clip}: features after {tap}")
    return {"features": half, "scale": np.float32(scale)}


def rows_of_videos(clips: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each video's clips, in their order."""
    videos: dict[str, list[int]] = {}
    for row, clip in enumerate(clips):
        videos.setdefault(clip.rpartition("/")[0], []).append(row)
    return videos
