"""True masks of the test set, read as they are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools import mask as rle

from data.letterbox import Letterbox
from data.masks import encode_rle
from extractors.shards import ShardReader
from models.metrics import RunLengths, acga_truth
from pipeline.recipes.job import Job


class Truth:
    """The Masks artifacts among a job's inputs. Of imported samples the masks in the frame's own size are not known."""

    def __init__(self, job: Job) -> None:
        folders = job.inputs["Masks"]
        self._shards = [ShardReader(folder / "masks.h5") for folder in folders]
        self._rows = [{name: row for row, name in enumerate(shard.ids)} for shard in self._shards]
        self.frames: dict[str, Any] = {}
        for folder in folders:
            self.frames |= json.loads((folder / "truth.json").read_bytes())["clips"]

    def restored(self, sample: Mapping[str, Any]) -> RunLengths:
        """Protocol acga: the letterboxed mask, mapped back to the frame."""
        frame, masks = self.frames[sample["clip"]], self._shards[sample["shard"]]
        if not sample["shown"]:
            return empty(frame)
        large = masks.read("large", self._rows[sample["shard"]][sample["mask"]])
        return encode_rle(acga_truth(large, Letterbox(frame["height"], frame["width"], large.shape[0])))

    def original(self, sample: Mapping[str, Any]) -> RunLengths | None:
        """Protocol coco: the mask as it was drawn; None where only the letterboxed one is known."""
        frame, instance = self.frames[sample["clip"]], sample["mask"].rpartition("/")[2]
        return frame["instances"][instance]["mask"] if sample["shown"] else empty(frame)

    def every_actor(self, sample: Mapping[str, Any]) -> RunLengths:
        """The union of all instances of the sample's frame."""
        instances = self.frames[sample["clip"]]["instances"].values()
        return rle.merge([instance["mask"] for instance in instances], intersect=False)


def empty(frame: Mapping[str, Any]) -> RunLengths:
    """A mask of a frame without a pixel in it."""
    return encode_rle(np.zeros((frame["height"], frame["width"]), np.uint8))
