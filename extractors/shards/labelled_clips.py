"""Clips with the actor and action of each cell, read from shards one at a time."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from data.records import split_label
from extractors.shards.shard import ShardReader
from models.training.pretraining import UNKNOWN_ACTOR, LabelledClips


class NoLabelledClips(ValueError):
    """Raised if the training set has no clip for pretraining."""


class StoredClips:
    """A `models.training.pretraining.LabelledClipSource` that reads Frames and Masks artifacts.

    Labels are on the grid of the small masks. `videos` selects the videos whose clips are used; empty selects all.
    Raises NoLabelledClips if no clip is selected."""

    def __init__(self, frames: Sequence[Path], masks: Sequence[Path], videos: frozenset[str]) -> None:
        self._frames = [ShardReader(folder / "frames.h5") for folder in frames]
        self._masks = [ShardReader(folder / "masks.h5") for folder in masks]
        self._labels: list[dict[str, list[tuple[int, int]]]] = []  # per shard: clip -> (row of the mask, label)
        for folder, reader in zip(masks, self._masks, strict=True):
            rows = {name: row for row, name in enumerate(reader.ids)}
            truth = json.loads((folder / "truth.json").read_bytes())["clips"]
            self._labels.append(
                {
                    clip: [(rows[f"{clip}/{instance}"], found["label"]) for instance, found in of["instances"].items()]
                    for clip, of in truth.items()
                }
            )
        self._clips = [
            (shard, row, clip)
            for shard, reader in enumerate(self._frames)
            for row, clip in enumerate(reader.ids)
            if not videos or clip.rpartition("/")[0] in videos
        ]
        if not self._clips:
            raise NoLabelledClips("pretraining: no clip of the videos that pretrain.videos names; correct the list")

    def __len__(self) -> int:
        return len(self._clips)

    @property
    def unnamed(self) -> tuple[int, int]:
        """Return the number of instances of these clips without a label, and of all."""
        labels = [label for shard, _, clip in self._clips for _, label in self._labels[shard][clip]]
        return labels.count(0), len(labels)

    def batch(self, indices: Sequence[int]) -> LabelledClips:
        """Return the clips at these positions, in this order."""
        clips, actors, actions = [], [], []
        for index in indices:
            shard, row, clip = self._clips[index]
            clips.append(self._frames[shard].read("frames", row))
            actor, action = self._cells(shard, clip)
            actors.append(actor)
            actions.append(action)
        return LabelledClips(
            clips=torch.from_numpy(np.stack(clips)),
            actors=torch.from_numpy(np.stack(actors)),
            actions=torch.from_numpy(np.stack(actions)),
        )

    def _cells(self, shard: int, clip: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the actor and the action of each cell; 0 if the cell has none, UNKNOWN_ACTOR if it has no name."""
        grid = self._masks[shard].shape("small")
        actors, actions = np.zeros(grid, np.int64), np.zeros(grid, np.int64)
        for row, label in self._labels[shard][clip]:
            covered = self._masks[shard].read("small", row).astype(bool)
            actor, action = split_label(label)
            actors[covered] = actor or UNKNOWN_ACTOR
            actions[covered] = action
        return actors, actions
