"""The true masks of the test set, which are read on demand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from pycocotools import mask as rle

from data.letterbox import Letterbox
from data.masks import RunLengths, encode_rle
from extractors.shards.sample_table import Sample
from extractors.shards.shard import ShardReader
from models.evaluation.metrics import acga_truth


class InstanceTruth(TypedDict):
    """An instance in a labelled frame: its mask in the frame's own size and its actor-action label; None if unknown."""

    mask: RunLengths | None
    label: int | None


class FrameTruth(TypedDict):
    """A labelled frame: its size in pixels and its instances by id."""

    height: int
    width: int
    instances: dict[str, InstanceTruth]


class TruthTable(TypedDict):
    """The content of truth.json: the labelled frames by clip, and by rule of `data.defects` the clips it applied to."""

    clips: dict[str, FrameTruth]
    rules: dict[str, list[str]]


def read_truth_table(folder: Path) -> TruthTable:
    """Read the truth.json of a Masks artifact."""
    table: TruthTable = json.loads((folder / "truth.json").read_bytes())
    return table


def labelled_frames(folders: Sequence[Path]) -> dict[str, FrameTruth]:
    """Return the labelled frames of several Masks artifacts by clip."""
    frames: dict[str, FrameTruth] = {}
    for folder in folders:
        frames |= read_truth_table(folder)["clips"]
    return frames


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
