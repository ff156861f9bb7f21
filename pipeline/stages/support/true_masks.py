"""The true masks of the test set, which are read on demand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as rle

from data.letterbox import Letterbox
from data.masks import RunLengths, encode_rle
from extractors.shards.sample_table import Sample
from extractors.shards.shard import ShardReader
from models.evaluation.metrics import acga_truth
from pipeline.stages.support.truth import FrameTruth, labelled_frames


class Truth:
    """The true masks of some Masks artifacts. For imported samples, masks in the frame's own size are not known."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._shards = [ShardReader(folder / "masks.h5") for folder in folders]
        self._rows = [{name: row for row, name in enumerate(shard.ids)} for shard in self._shards]
        self.frames = labelled_frames(folders)

    def restored(self, sample: Sample) -> RunLengths:
        """Return the true mask of the protocol acga: the letterboxed mask, mapped back to the frame."""
        frame, masks = self.frames[sample["clip"]], self._shards[sample["shard"]]
        if not sample["shown"]:
            return empty(frame)
        large = masks.read("large", self._rows[sample["shard"]][sample["mask"]])
        return encode_rle(acga_truth(large, Letterbox(frame["height"], frame["width"], large.shape[0])))

    def original(self, sample: Sample) -> RunLengths | None:
        """Return the true mask of the protocol coco, as annotated, or None if only the letterboxed mask is known."""
        frame, instance = self.frames[sample["clip"]], sample["mask"].rpartition("/")[2]
        return frame["instances"][instance]["mask"] if sample["shown"] else empty(frame)

    def every_actor(self, sample: Sample) -> RunLengths:
        """Return the union of the masks of all instances in the sample's frame."""
        instances = self.frames[sample["clip"]]["instances"].values()
        union: RunLengths = rle.merge([instance["mask"] for instance in instances], intersect=False)
        return union


def empty(frame: FrameTruth) -> RunLengths:
    """Return an empty mask of a frame's size."""
    return encode_rle(np.zeros((frame["height"], frame["width"]), np.uint8))
