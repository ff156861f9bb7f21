"""Samples with their tensors, read from shards as they are needed: nothing is ever loaded whole."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extractors.shards import ShardReader
from models.training import Batch


class StoredSamples:
    """A `models.training.SampleSource` over Samples, TextFeatures, VisualFeatures and Masks artifacts."""

    def __init__(
        self,
        samples: Sequence[Mapping[str, Any]],
        text: ShardReader,
        visual: Sequence[ShardReader],
        masks: Sequence[ShardReader],
    ) -> None:
        self.samples = samples
        self._text, self._visual, self._masks = text, visual, masks
        self._queries = _rows(text)
        self._clips = [_rows(reader) for reader in visual]
        self._instances = [_rows(reader) for reader in masks]

    @classmethod
    def of(cls, inputs: Mapping[str, Sequence[Path]]) -> "StoredSamples":
        """The samples of artifacts, given by stage; the shards of one stage in their order."""
        (samples,), (text,) = inputs["Samples"], inputs["TextFeatures"]
        return cls(
            json.loads((samples / "samples.json").read_bytes())["samples"],
            ShardReader(text / "text.h5"),
            [ShardReader(folder / "visual.h5") for folder in inputs["VisualFeatures"]],
            [ShardReader(folder / "masks.h5") for folder in inputs["Masks"]],
        )

    @property
    def clips(self) -> list[list[int]]:
        """The positions of the samples of each clip."""
        grouped: dict[str, list[int]] = {}
        for position, sample in enumerate(self.samples):
            grouped.setdefault(sample["clip"], []).append(position)
        return list(grouped.values())

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples at these positions, in this order; the features of a clip once."""
        wanted = [self.samples[index] for index in indices]
        clips = list(dict.fromkeys((sample["shard"], sample["clip"]) for sample in wanted))
        place = {clip: position for position, (_, clip) in enumerate(clips)}
        features = [self._visual[shard].read("features", self._clips[shard][clip]) for shard, clip in clips]
        words = [self._text.read("words", self._queries[sample["query"]]) for sample in wanted]
        return Batch(
            features=torch.from_numpy(np.stack(features)),
            clip=torch.tensor([place[sample["clip"]] for sample in wanted]),
            words=torch.from_numpy(np.stack(words)),
            small=self._targets("small", wanted),
            medium=self._targets("medium", wanted),
            large=self._targets("large", wanted),
        )

    def _targets(self, resolution: str, wanted: Sequence[Mapping[str, Any]]) -> torch.Tensor:
        return torch.from_numpy(np.stack([self._target(resolution, sample) for sample in wanted]))

    def _target(self, resolution: str, sample: Mapping[str, Any]) -> np.ndarray:
        """The mask of a sample; an empty one where the labelled frame does not show the instance."""
        masks = self._masks[sample["shard"]]
        if not sample["shown"]:
            return np.zeros(masks.shape(resolution), np.uint8)
        return masks.read(resolution, self._instances[sample["shard"]][sample["mask"]])


def _rows(reader: ShardReader) -> dict[str, int]:
    return {name: row for row, name in enumerate(reader.ids)}
