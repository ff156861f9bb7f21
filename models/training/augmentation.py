"""Horizontal flips of training samples, which the authors do not use."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.training.samples import Batch

STREAM = 1  # spawn key, which separates these draws from those of `sampling.shuffled`


class MissingMirroredWords(ValueError):
    """Error raised if samples are to be mirrored but have no word vectors of mirrored sentences."""


def is_flipped(seed: int, epoch: int, step: int, clip: int) -> bool:
    """Return whether a step mirrors a clip: a fair coin toss that depends only on the arguments."""
    words = np.random.PCG64(np.random.SeedSequence([seed, epoch, step, clip], spawn_key=(STREAM,))).random_raw(1)
    return int(words[0]) >> 63 == 1


def flipped(batch: Batch, flags: Sequence[bool]) -> Batch:
    """Return the batch with the flagged sentences, their masks and the features of their clips mirrored.

    All sentences of a clip must have the same flag. A mirrored feature map only approximates the features of the
    mirrored clip, because the trunk does not treat left and right alike. Raises MissingMirroredWords.
    """
    if batch.mirrored_words is None:
        raise MissingMirroredWords(
            "Samples have no mirrored words, expected them with [training] flip. Make word vectors of the sentences "
            "with left and right swapped too, or switch flip off."
        )
    sentences = torch.tensor(list(flags), dtype=torch.bool)
    clips = torch.zeros(len(batch.features), dtype=torch.bool)
    clips[batch.clip] = sentences
    return dataclasses.replace(
        batch,
        features=mirrored(batch.features, clips),
        words=torch.where(sentences.reshape(-1, 1, 1), batch.mirrored_words, batch.words),
        small=mirrored(batch.small, sentences),
        medium=mirrored(batch.medium, sentences),
        large=mirrored(batch.large, sentences),
    )


def mirrored(maps: Tensor, rows: Tensor) -> Tensor:
    """Return the maps with the last axis reversed in those rows where `rows` is True."""
    return torch.where(rows.reshape(-1, *[1] * (maps.ndim - 1)), maps.flip(-1), maps)
