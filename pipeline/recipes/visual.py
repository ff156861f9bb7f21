"""VisualFeatures: the frozen trunk on every clip of a shard.

visual.h5   features (C, T, S/16, S/16) float16 a row, divided by scale (a power of two, mostly 1): I3D after mixed_4e,
            T a quarter of the clip's frames; or a ResNet before its last block of layer3, T the frames it sees; ids are
            the clips'
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from extractors.halves import halved
from extractors.shards import ShardReader, ShardWriter
from extractors.visual import batches_of, extract
from models.folded import folded
from pipeline.recipes.compute import prepare
from pipeline.recipes.job import Job
from pipeline.recipes.weights import trunk

SOURCES = {"rgb": ("Frames", "frames.h5", "frames"), "flow": ("Flow", "flow.h5", "fields")}


def build(job: Job) -> None:
    """Extract in batches of a fixed size that never cross videos."""
    device, visual, stream = prepare(job.sections["compute"]), job.sections["visual"], job.members["records"]["stream"]
    video = folded(trunk(job, stream)).to(device, getattr(torch, visual["compute"]))
    stage, file, array = SOURCES[stream]
    source = ShardReader(job.folder(stage) / file)
    batches = batches_of([clip.rpartition("/")[0] for clip in source.ids], visual["batch"])
    arrays = {"features": (video.features_shape(*source.shape(array)[:2]), np.float16), "scale": ((), np.float32)}
    with ShardWriter(job.out / "visual.h5", len(source), arrays, {"tap": video.tap}) as writer:
        for row, features in extract(video, partial(source.read_many, array), batches, video.tap, visual["batch"]):
            clip = source.ids[row]
            half, scale = halved(features, f"clip {clip}: features after {video.tap}")
            writer.write(row, clip, features=half, scale=np.float32(scale))
            job.progress(row, len(source))
