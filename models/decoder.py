"""Responses at three resolutions, each four times finer than the one before, and their fusion (paper section 3.4)."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from models.enlarged import convolve_enlarged, enlarged
from models.spatial import CHANNELS, coordinates

STEP = 4  # between resolutions


@dataclass(frozen=True)
class Responses:
    """Logits at three resolutions; `large` is the fused response."""

    small: Float[Tensor, "b h w"]
    medium: Float[Tensor, "b 4*h 4*w"]
    large: Float[Tensor, "b 16*h 16*w"]


class Decoder(nn.Module):
    """The decoder: `channels` are the visual channels at medium and large size, `widths` those of the mask heads."""

    def __init__(
        self, visual_channels: int, word_dim: int, channels: tuple[int, int], widths: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.channels = channels
        self.widths = widths
        medium, large = channels
        beside = word_dim + CHANNELS
        self.upsample_medium = upsampler(visual_channels, medium)
        self.upsample_large = upsampler(medium, large)
        self.mask_small = mask_head(visual_channels + beside, widths[0])
        self.mask_medium = mask_head(medium + beside, widths[1])
        self.mask_large = mask_head(large + beside, widths[2])
        self.fusion = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, visual: Float[Tensor, "b v h w"], language: Float[Tensor, "b d h w"]) -> Responses:
        """Return the responses to the attended features and words."""
        small = respond(self.mask_small, visual, language)
        visual = self.upsample_medium(visual)
        medium = respond(self.mask_medium, visual, language)
        visual = self.upsample_large(visual)
        large = respond(self.mask_large, visual, language)
        size = (large.shape[-2], large.shape[-1])
        fused = self.fusion(torch.cat([enlarged(small, size), enlarged(medium, size), large], dim=1))
        return Responses(*(rearrange(response, "b 1 h w -> b h w") for response in (small, medium, fused)))


def upsampler(inputs: int, outputs: int) -> nn.Sequential:
    """Return the layers that make a map four times finer; the authors have no activation between them."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 2 * STEP, stride=STEP, padding=STEP // 2),
        nn.Conv2d(outputs, outputs, 3, padding=1),
    )


def mask_head(inputs: int, width: int) -> nn.Sequential:
    """Return the fully convolutional network that gives a response."""
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 1, 1),
    )


def respond(
    head: nn.Sequential, visual: Float[Tensor, "b v h w"], language: Float[Tensor, "b d h2 w2"]
) -> Float[Tensor, "b 1 h w"]:
    """Return a mask head's response to the visual features, the words at their size and the coordinates, in this order.

    The three are convolved apart: the words before they are enlarged, the coordinates once for the whole batch.
    """
    first, *others = head
    if not isinstance(first, nn.Conv2d):
        raise TypeError(f"a mask head begins with a convolution, not {first}")
    size = (visual.shape[-2], visual.shape[-1])
    of_visual, of_words, of_place = first.weight.split([visual.shape[1], language.shape[1], CHANNELS], dim=1)
    where = coordinates(*size, visual.device, visual.dtype)
    maps = functional.conv2d(visual, of_visual, first.bias, padding=1)
    maps = maps + functional.conv2d(where[None], of_place, padding=1)
    maps = maps + convolve_enlarged(language, of_words, size)
    for layer in others:
        maps = layer(maps)
    return maps
