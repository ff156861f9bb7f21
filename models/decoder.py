"""Responses at three resolutions, each four times finer than the one before, and their fusion (paper section 3.4)."""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

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
        small = self.mask_small(described(visual, language))
        visual = self.upsample_medium(visual)
        medium = self.mask_medium(described(visual, language))
        visual = self.upsample_large(visual)
        large = self.mask_large(described(visual, language))
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


def described(visual: Float[Tensor, "b v h w"], language: Float[Tensor, "b d h2 w2"]) -> Float[Tensor, "b f h w"]:
    """Return the visual features, the words at their size and the coordinates, in this order."""
    height, width = visual.shape[-2:]
    where = repeat(coordinates(height, width, visual.device, visual.dtype), "k h w -> b k h w", b=len(visual))
    return torch.cat([visual, enlarged(language, (height, width)), where], dim=1)


def enlarged(maps: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
    """Return the maps at a size, bilinear with aligned pixel areas (the same maps where they have it)."""
    if (maps.shape[-2], maps.shape[-1]) == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
