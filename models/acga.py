"""ACGA (Wang et al., ICCV 2019): which pixels of a clip does a sentence describe?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn
from torch.nn import functional

from models.attention import CrossGuidedAttention, SentenceTiling
from models.backbones.backbone import Backbone, BackboneSizes, assemble_backbone, sizes_of
from models.backbones.i3d import Mixed
from models.backbones.initialisation import (
    initialise_averaging,
    initialise_default,
    initialise_kaiming,
    initialise_linear,
)
from models.decoder import Decoder, Responses
from models.fast.convolution import working_precision
from models.fast.inception import mixed
from models.layers import Mode

LIKENESS_GATE = 3.0  # with 208 visual channels: logits of about 10 times the cosine


class UnknownInitialisation(ValueError):
    """A way to initialise ACGA that does not exist."""


@dataclass(frozen=True)
class Sizes:
    """All that is needed to build an ACGA but its weights; `video` is its backbone's."""

    video: BackboneSizes
    word_dim: int
    channels: tuple[int, int]
    widths: tuple[int, int, int]
    attention: bool
    fused: bool = True


class WordEncoder(nn.Module):
    """A convolution over three neighbouring words, and tanh; padding words are words like any other."""

    def __init__(self, word_dim: int) -> None:
        super().__init__()
        self.word_dim = word_dim
        self.convolution = nn.Conv1d(word_dim, word_dim, 3, padding=1)

    def forward(self, words: Float[Tensor, "b l d"]) -> Float[Tensor, "b d l"]:
        """Return the words in their context, channels first, in [-1, 1]."""
        return torch.tanh(self.convolution(rearrange(words, "b l d -> b d l")))


class ACGA(nn.Module):
    """The network. It carries the whole backbone, of which only the head (I3D's `mixed_4f`) runs and is trained here.

    `mode` says how it computes: "plain" applies the paper's operations one by one, "fast" gives the same values.
    """

    def __init__(
        self, video: Backbone, text: WordEncoder, attention: CrossGuidedAttention | SentenceTiling, decoder: Decoder
    ) -> None:
        super().__init__()
        self.video = video
        self.text = text
        self.attention = attention
        self.decoder = decoder

    @property
    def mode(self) -> Mode:
        """How the network computes."""
        return self.decoder.mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self.decoder.mode = mode
        if isinstance(self.attention, CrossGuidedAttention):
            self.attention.mode = mode

    @property
    def sizes(self) -> Sizes:
        """What `assemble` needs to build this network again."""
        return Sizes(
            video=sizes_of(self.video),
            word_dim=self.text.word_dim,
            channels=self.decoder.channels,
            widths=self.decoder.widths,
            attention=isinstance(self.attention, CrossGuidedAttention),
            fused=self.decoder.fusion is not None,
        )

    def forward(
        self,
        features: Float[Tensor, "c f t h w"],
        words: Float[Tensor, "b l d"],
        clip: Int64[Tensor, " b"] | None = None,
    ) -> Responses:
        """Return each sentence's responses on its clip.

        The features are the trunk's at `mixed_4e`; `clip` gives the position in them of each sentence's clip, None
        meaning one clip a sentence. A clip of several sentences is encoded once and counts once in batch statistics.
        """
        if clip is None:
            clip = torch.arange(len(words), device=words.device)
        visual = functional.normalize(self.head(features), dim=1)
        vision, language = self.attention(visual, self.text(words), clip)
        return self.decoder(vision, language)

    def head(self, features: Float[Tensor, "c f t h w"]) -> Float[Tensor, "c v h w"]:
        """Return the mean over time of what the backbone's head makes of the trunk's features."""
        block = self.video.get_submodule(self.video.head_name)
        if self.mode == "plain" or not isinstance(block, Mixed):
            return self.video.head(features).mean(2)
        precision = working_precision(features.dtype, features.device)
        with torch.autocast(features.device.type, enabled=False):
            means = mixed(block, features.to(precision)).mean(1, dtype=features.dtype)
        return rearrange(means, "c h w v -> c v h w")

    def train(self, mode: bool = True) -> "ACGA":
        """Set the mode of all that is trained; the frozen trunk always evaluates."""
        super().train(mode)
        self.video.eval()
        self.video.get_submodule(self.video.head_name).train(mode)
        return self

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters that training changes, with their names: the backbone's head and everything after it."""
        for name, parameter in self.named_parameters():
            if name.startswith(f"video.{self.video.head_name}.") or not name.startswith("video."):
                yield name, parameter


def build(
    video: Backbone,
    word_dim: int,
    channels: tuple[int, int],
    widths: tuple[int, int, int],
    attention: bool,
    initialisation: str,
    generator: Generator,
    mode: Mode = "fast",
    fused: bool = True,
) -> ACGA:
    """Return a new network around a backbone, which stays as it is; the paper's sizes: 300, (256, 128), (256, 128, 64).

    authors: linear layers N(0, 0.02) without bias, convolutions by PyTorch's default.
    scaled: for training from scratch. After the L2 norm visual entries are about 1/sqrt(channels) beside coordinates
    of about 1, so the visual columns of the attention's linear layers are multiplied by sqrt(channels); the mask heads
    start from kaiming weights and the fusion from an average. The forward pass is the authors'.
    Raises UnknownInitialisation.
    """
    if initialisation not in ("authors", "scaled"):
        raise UnknownInitialisation(f"ACGA initialisation {initialisation!r}: expected 'authors' or 'scaled'.")
    model = around(video, Sizes(sizes_of(video), word_dim, channels, widths, attention, fused), mode)
    for part in (model.text, model.attention, model.decoder):
        initialise_default(part, generator)
        initialise_linear(part, generator)
    if initialisation == "scaled":
        scale_visual_columns(model.attention, video.channels[video.head_name])
        initialise_as_similarity(model.attention)
        for head in (model.decoder.mask_small, model.decoder.mask_medium, model.decoder.mask_large):
            initialise_kaiming(head, generator)
        if model.decoder.fusion is not None:
            initialise_averaging(model.decoder.fusion)
    return model


def assemble(sizes: Sizes, mode: Mode = "fast") -> ACGA:
    """Return a network of these sizes whose weights are to be loaded."""
    return around(assemble_backbone(sizes.video), sizes, mode)


def around(video: Backbone, sizes: Sizes, mode: Mode) -> ACGA:
    """Return a network of these sizes around a backbone."""
    visual, words = video.channels[video.head_name], sizes.word_dim
    attending = CrossGuidedAttention(visual, words, mode) if sizes.attention else SentenceTiling()
    decoder = Decoder(visual, words, sizes.channels, sizes.widths, sizes.fused, mode)
    return ACGA(video, WordEncoder(words), attending, decoder)


def scale_visual_columns(attention: CrossGuidedAttention | SentenceTiling, channels: int) -> None:
    """Multiply by sqrt(channels) the weights that read visual features; a tiling has none."""
    if isinstance(attention, CrossGuidedAttention):
        with torch.no_grad():
            for linear in (attention.reduce, attention.key, attention.query, attention.value):
                linear.weight[:, :channels] *= math.sqrt(channels)


def initialise_as_similarity(attention: CrossGuidedAttention | SentenceTiling) -> None:
    """Let cells attend to cells like themselves from the first step; a tiling has no such attention.

    Small random gates make the attention over cells uniform, so that every cell sees the mean of the frame and nothing
    of itself. With equal keys and queries and a gate of about `LIKENESS_GATE` it begins as a kernel of their likeness.
    """
    if isinstance(attention, CrossGuidedAttention):
        with torch.no_grad():
            attention.query.weight.copy_(attention.key.weight)
            attention.gate.bias.fill_(LIKENESS_GATE)
