"""Asymmetric cross-guided attention (paper section 3.3) from each cell of the feature map to words and to cells.

`clip` holds the index of each sentence's clip, so that several sentences can share one clip.
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
    """Vision guided language attention (eq. 3-4) and language guided vision attention (eq. 5-8).

    Mode "plain" applies the paper's operations to each sentence separately. Mode "fast" computes the same values, but
    does the work that depends only on the clip once per clip.
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
        """Return the attended visual features and the attended words, both for every cell."""
        height, width = visual.shape[-2:]
        gate = rearrange(self.gate(words.amax(-1)), "b f -> b 1 f")
        if self.mode == "plain":
            cells = cells_with_coordinates(of_clips(visual, clip))
            language = attend_words(self.reduce(cells), words)
            vision = attend_cells(self.key(cells) * gate, self.query(cells) * gate, self.value(cells))
        else:
            # Gating keys and queries equals gating the keys with the square of the gate. The values of the coordinates
            # are not computed, because the decoder does not use their attended values.
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
    """The ablation without attention: unchanged visual features, and the maximum over the words at every cell."""

    def forward(
        self, visual: Float[Tensor, "c v h w"], words: Float[Tensor, "b d l"], clip: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b v h w"], Float[Tensor, "b d h w"]]:
        """Return the visual features of each sentence's clip, and its maximum over the words at every cell."""
        height, width = visual.shape[-2:]
        return of_clips(visual, clip), repeat(words.amax(-1), "b d -> b d h w", h=height, w=width)


def of_clips(values: Float[Tensor, "c ..."], clip: Int64[Tensor, " b"]) -> Float[Tensor, "b ..."]:
    """Return the row of each sentence's clip.

    On a CPU the gradient of `values[clip]` is summed in the order in which threads arrive, so its last bits vary from
    run to run; the gradient of `index_select` is summed in the order of the sentences.
    """
    return values.index_select(0, clip)


def cells_with_coordinates(visual: Float[Tensor, "c v h w"]) -> Float[Tensor, "c n f"]:
    """Return one row per cell: its visual features followed by its eight coordinates."""
    clips, _, height, width = visual.shape
    where = repeat(coordinates(height, width, visual.device, visual.dtype), "k h w -> c k h w", c=clips)
    return rearrange(torch.cat([visual, where], dim=1), "c f h w -> c (h w) f")


def attend_words(cells: Float[Tensor, "b n d"], words: Float[Tensor, "b d l"]) -> Float[Tensor, "b n d"]:
    """Return for each cell the mean of the words, weighted by a softmax over the words (eq. 3-4), padding included."""
    likeness = torch.bmm(cells, words) / math.sqrt(words.shape[1])
    return torch.bmm(likeness.softmax(-1), rearrange(words, "b d l -> b l d"))


def attend_cells(
    keys: Float[Tensor, "b n f"], queries: Float[Tensor, "b n f"], values: Float[Tensor, "b n v"]
) -> Float[Tensor, "b n v"]:
    """Return for each key the mean of the values, weighted by the similarity of the key to their queries (eq. 5-8).

    The softmax runs over the queries, as in the authors' code.
    """
    likeness = torch.bmm(keys, rearrange(queries, "b n f -> b f n")) / math.sqrt(keys.shape[-1])
    return torch.bmm(likeness.softmax(-1), values)
