"""Asymmetric cross-guided attention (paper section 3.3): words for every cell, and cells for every cell.

What depends on the clip alone is computed once a clip; `clip` gives the clip of each sentence.
"""

import math

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from models.layers import Mode
from models.spatial import CHANNELS, coordinates


class CrossGuidedAttention(nn.Module):
    """Both directions: vision guided language attention (eq. 3-4) and language guided vision attention (eq. 5-8).

    `mode` says whether the operations are the paper's one by one, each sentence by itself, or give the same faster.
    """

    def __init__(self, visual_channels: int, word_dim: int, mode: Mode = "fast") -> None:
        super().__init__()
        located = visual_channels + CHANNELS
        self.reduce = nn.Linear(located, word_dim)
        self.key = nn.Linear(located, located)
        self.query = nn.Linear(located, located)
        self.value = nn.Linear(located, located)
        self.gate = nn.Linear(word_dim, located)
        self.mode = mode

    def forward(
        self, visual: Float[Tensor, "c v h w"], words: Float[Tensor, "b d l"], clip: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b v h w"], Float[Tensor, "b d h w"]]:
        """Return the attended visual features and, for every cell, the attended words."""
        height, width = visual.shape[-2:]
        gate = rearrange(self.gate(words.amax(-1)), "b f -> b 1 f")
        if self.mode == "plain":
            cells = cells_with_coordinates(of_clips(visual, clip))
            language = attend_words(self.reduce(cells), words)
            vision = attend_cells(self.key(cells) * gate, self.query(cells) * gate, self.value(cells))
        else:
            # Once a clip; a gate on both sides of a product is its square on one, and coordinates are not looked at.
            cells, channels = cells_with_coordinates(visual), visual.shape[1]
            language = attend_words(of_clips(self.reduce(cells), clip), words)
            values = functional.linear(cells, self.value.weight[:channels], self.value.bias[:channels])
            keys, queries, values = (of_clips(each, clip) for each in (self.key(cells), self.query(cells), values))
            vision = attend_cells(keys * gate.square(), queries, values)
        return (
            rearrange(vision[..., : visual.shape[1]], "b (h w) v -> b v h w", h=height, w=width),
            rearrange(language, "b (h w) d -> b d h w", h=height, w=width),
        )


class SentenceTiling(nn.Module):
    """No attention, for the ablation: the features as they are, and at every cell the maximum over the words."""

    def forward(
        self, visual: Float[Tensor, "c v h w"], words: Float[Tensor, "b d l"], clip: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b v h w"], Float[Tensor, "b d h w"]]:
        """Return the visual features of each sentence's clip and the sentence at every cell."""
        height, width = visual.shape[-2:]
        return of_clips(visual, clip), repeat(words.amax(-1), "b d -> b d h w", h=height, w=width)


def of_clips(values: Float[Tensor, "c ..."], clip: Int64[Tensor, " b"]) -> Float[Tensor, "b ..."]:
    """Return the row of each sentence's clip.

    Not `values[clip]`: on a CPU its gradient is added up in whatever order threads come by, with other last bits each
    time; that of `index_select` in the order of the sentences.
    """
    return values.index_select(0, clip)


def cells_with_coordinates(visual: Float[Tensor, "c v h w"]) -> Float[Tensor, "c n f"]:
    """Return each cell's features followed by its coordinates, as a row."""
    clips, _, height, width = visual.shape
    where = repeat(coordinates(height, width, visual.device, visual.dtype), "k h w -> c k h w", c=clips)
    return rearrange(torch.cat([visual, where], dim=1), "c f h w -> c (h w) f")


def attend_words(cells: Float[Tensor, "b n d"], words: Float[Tensor, "b d l"]) -> Float[Tensor, "b n d"]:
    """Return, for every cell, the mean of the words weighted by their likeness to it; padding words take part."""
    likeness = torch.bmm(cells, words) / math.sqrt(words.shape[1])
    return torch.bmm(likeness.softmax(-1), rearrange(words, "b d l -> b l d"))


def attend_cells(
    keys: Float[Tensor, "b n f"], queries: Float[Tensor, "b n f"], values: Float[Tensor, "b n v"]
) -> Float[Tensor, "b n v"]:
    """Return, for every key, the mean of the values weighted by their queries' likeness to it.

    The softmax runs over the queries, as in the authors' code.
    """
    likeness = torch.bmm(keys, rearrange(queries, "b n f -> b f n")) / math.sqrt(keys.shape[-1])
    return torch.bmm(likeness.softmax(-1), values)
