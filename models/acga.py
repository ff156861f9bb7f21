"""ACGA (Wang et al., ICCV 2019): a network that segments the actor that a sentence describes in a video clip."""

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

LIKENESS_GATE = 3.0  # initial gate: attention logits of about 10 times the cosine similarity (208 visual channels)


class UnknownInitialisation(ValueError):
    """Error raised if the name of an initialisation of ACGA is unknown."""


@dataclass(frozen=True)
class Sizes:
    """The architecture of an ACGA network, without its weights; `video` is the architecture of its backbone.

    `channels` are the decoder's visual channels at medium and large resolution, and `widths` are the channels of the
    small, medium and large mask heads.
    """

    video: BackboneSizes
    word_dim: int
    channels: tuple[int, int]
    widths: tuple[int, int, int]
    attention: bool
    fused: bool = True


class WordEncoder(nn.Module):
    """A 1-D convolution over the words (kernel 3, padding 1), followed by tanh; padding words are included."""

    def __init__(self, word_dim: int) -> None:
        super().__init__()
        self.word_dim = word_dim
        self.convolution = nn.Conv1d(word_dim, word_dim, 3, padding=1)

    def forward(self, words: Float[Tensor, "b l d"]) -> Float[Tensor, "b d l"]:
        """Return the encoded words, channels first, in [-1, 1]."""
        return torch.tanh(self.convolution(rearrange(words, "b l d -> b d l")))


class ACGA(nn.Module):
    """The ACGA network: backbone head, word encoder, cross-guided attention and decoder.

    It contains the whole backbone, but only the backbone's head (I3D's `mixed_4f`) runs here and is trained. In mode
    "plain" it applies the paper's operations one by one; in mode "fast" it computes the same values at lower cost.
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
        """Return the mode of computation, "fast" or "plain"."""
        return self.decoder.mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self.decoder.mode = mode
        if isinstance(self.attention, CrossGuidedAttention):
            self.attention.mode = mode

    @property
    def sizes(self) -> Sizes:
        """Return the sizes from which `assemble` can rebuild this network."""
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
        """Return the responses (logits) of each sentence on its clip.

        `features` are the output of the trunk (`mixed_4e` of I3D). `clip` holds the index in `features` of each
        sentence's clip; None means one clip per sentence, in the same order. A clip with several sentences is encoded
        once and counts once in the batch statistics.
        """
        if clip is None:
            clip = torch.arange(len(words), device=words.device)
        visual = functional.normalize(self.head(features), dim=1)
        vision, language = self.attention(visual, self.text(words), clip)
        responses: Responses = self.decoder(vision, language)
        return responses

    def head(self, features: Float[Tensor, "c f t h w"]) -> Float[Tensor, "c v h w"]:
        """Return the output of the backbone's head for the trunk's features, averaged over time."""
        block = self.video.get_submodule(self.video.head_name)
        if self.mode == "plain" or not isinstance(block, Mixed):
            return self.video.head(features).mean(2)
        precision = working_precision(features.dtype, features.device)
        with torch.autocast(features.device.type, enabled=False):
            means = mixed(block, features.to(precision)).mean(1, dtype=features.dtype)
        return rearrange(means, "c h w v -> c v h w")

    def train(self, mode: bool = True) -> "ACGA":
        """Set training or evaluation mode of the trained parts; the frozen trunk stays in evaluation mode."""
        super().train(mode)
        self.video.eval()
        self.video.get_submodule(self.video.head_name).train(mode)
        return self

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the names and values of the trained parameters: the backbone's head and everything after it."""
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
    """Return a new network around a backbone, whose weights stay unchanged. Raises UnknownInitialisation.

    The paper's sizes are `word_dim` 300, `channels` (256, 128) and `widths` (256, 128, 64). `initialisation` is one of:
    authors: linear layers with weights of standard deviation 0.02 and zero bias; convolutions by PyTorch's default.
    scaled: for training from scratch. After the L2 normalisation visual entries are about 1/sqrt(channels), while the
    coordinates are about 1, so the visual columns of the attention's linear layers are multiplied by sqrt(channels).
    The attention over cells starts as a similarity, the mask heads from kaiming weights and the fusion from an average.
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
    """Return a network of these sizes, whose weights are still to be loaded. Raises UnknownBackbone."""
    return around(assemble_backbone(sizes.video), sizes, mode)


def around(video: Backbone, sizes: Sizes, mode: Mode) -> ACGA:
    """Return a network of these sizes around an existing backbone."""
    visual, words = video.channels[video.head_name], sizes.word_dim
    attending = CrossGuidedAttention(visual, words, mode) if sizes.attention else SentenceTiling()
    decoder = Decoder(visual, words, sizes.channels, sizes.widths, sizes.fused, mode)
    return ACGA(video, WordEncoder(words), attending, decoder)


def scale_visual_columns(attention: CrossGuidedAttention | SentenceTiling, channels: int) -> None:
    """Multiply the attention weights of visual features by sqrt(channels); do nothing for a `SentenceTiling`."""
    if isinstance(attention, CrossGuidedAttention):
        with torch.no_grad():
            for linear in (attention.reduce, attention.key, attention.query, attention.value):
                linear.weight[:, :channels] *= math.sqrt(channels)


def initialise_as_similarity(attention: CrossGuidedAttention | SentenceTiling) -> None:
    """Initialise the attention over cells as a similarity kernel; do nothing for a `SentenceTiling`.

    With small random gates the attention over cells is uniform, and each cell receives only the mean over the frame.
    With equal weights of keys and queries and a gate of about `LIKENESS_GATE`, each cell attends to similar cells.
    """
    if isinstance(attention, CrossGuidedAttention):
        with torch.no_grad():
            attention.query.weight.copy_(attention.key.weight)
            attention.gate.bias.fill_(LIKENESS_GATE)
