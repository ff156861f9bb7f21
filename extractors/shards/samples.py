"""Samples with their tensors, read from shards when they are needed; no array of features is loaded whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from extractors.shards.sample_table import Sample, inputs_of_samples
from extractors.shards.shard import ShardReader, read_rows
from models.training.samples import Batch


class StoredSamples:
    """A `models.training.samples.SampleSource` that reads Samples, TextFeatures, VisualFeatures and Masks artifacts.

    Features are float16 as stored; a batch that contains a row with a scale other than 1 has float32 features."""

    def __init__(
        self,
        samples: Sequence[Sample],
        text: ShardReader,
        visual: Sequence[ShardReader],
        masks: Sequence[ShardReader],
    ) -> None:
        self.samples = samples
        self._text, self._visual, self._masks = text, visual, masks
        self._queries = _rows(text)
        self._clips = [_rows(reader) for reader in visual]
        self._scales = [_scales(reader) for reader in visual]
        self._instances = [_rows(reader) for reader in masks]

    @classmethod
    def of(cls, inputs: Mapping[str, Sequence[Path]], stream: str) -> "StoredSamples":
        """Open the samples of artifacts, given by stage, with the features of `stream`; shards keep their order."""
        (text,) = inputs["TextFeatures"]
        return cls(
            inputs_of_samples(inputs),
            ShardReader(text / "text.h5"),
            [ShardReader(folder / "visual.h5") for folder in inputs[f"VisualFeatures.{stream}"]],
            [ShardReader(folder / "masks.h5") for folder in inputs["Masks"]],
        )

    @property
    def features_shape(self) -> tuple[int, ...]:
        """The shape of a clip's features."""
        return self._visual[0].shape("features")

    @property
    def videos(self) -> list[str]:
        """The id of each sample's video."""
        return [sample["clip"].rpartition("/")[0] for sample in self.samples]

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
        """Return the samples at these positions, in this order; the features of each clip are included once."""
        wanted = [self.samples[index] for index in indices]
        clips = list(dict.fromkeys((sample["shard"], sample["clip"]) for sample in wanted))
        place = {clip: position for position, (_, clip) in enumerate(clips)}
        mirrored = self._words("mirrored", wanted) if "mirrored" in self._text.names else None
        return Batch(
            features=self._features([(shard, self._clips[shard][clip]) for shard, clip in clips]),
            clip=torch.tensor([place[sample["clip"]] for sample in wanted]),
            words=self._words("words", wanted),
            small=self._targets("small", wanted),
            medium=self._targets("medium", wanted),
            large=self._targets("large", wanted),
            mirrored_words=mirrored,
        )

    def _words(self, name: str, wanted: Sequence[Sample]) -> Float[Tensor, "b l d"]:
        """Return the word vectors of samples: `name` is "words", or "mirrored" for the mirrored sentences."""
        return torch.from_numpy(np.stack([self._text.read(name, self._queries[sample["query"]]) for sample in wanted]))

    def _features(self, places: Sequence[tuple[int, int]]) -> Float[Tensor, "c f t h w"]:
        """Return the features of clips, given by shard and row."""
        features = torch.from_numpy(read_rows("features", [(self._visual[shard], row) for shard, row in places]))
        scales = torch.from_numpy(np.stack([self._scales[shard][row] for shard, row in places]))
        if bool((scales == 1).all()):
            return features
        return features.float().mul_(rearrange(scales, "c -> c 1 1 1 1"))

    def _targets(self, resolution: str, wanted: Sequence[Sample]) -> torch.Tensor:
        return torch.from_numpy(np.stack([self._target(resolution, sample) for sample in wanted]))

    def _target(self, resolution: str, sample: Sample) -> np.ndarray:
        """Return the mask of a sample; all zeros if the labelled frame does not show the instance."""
        masks = self._masks[sample["shard"]]
        if not sample["shown"]:
            return np.zeros(masks.shape(resolution), np.uint8)
        row = self._instances[sample["shard"]][sample["mask"]]
        return masks.read(resolution, row)


def _rows(reader: ShardReader) -> dict[str, int]:
    return {name: row for row, name in enumerate(reader.ids)}


def _scales(reader: ShardReader) -> np.ndarray:
    """Return the factor of each row's features: its stored scale, or 1 if the shard has no scales."""
    return reader.array("scale") if "scale" in reader.names else np.ones(len(reader), np.float32)
