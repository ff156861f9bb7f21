"""The decoder as the paper describes it, one operation after the other: upsample, concatenate, convolve."""

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from models.fast.upsampled_convolution import enlarged
from models.layers import Layers, MaskHead
from models.spatial import coordinates


def decode(
    layers: Layers, visual: Float[Tensor, "b v h w"], language: Float[Tensor, "b d h w"]
) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 4*h 4*w"], Float[Tensor, "b 1 16*h 16*w"]]:
    """Return the small, medium and fused response; the third is the large head's if the layers have no fusion."""
    small = respond(layers.mask_small, visual, language)
    visual = layers.upsample_medium(visual)
    medium = respond(layers.mask_medium, visual, language)
    visual = layers.upsample_large(visual)
    large = respond(layers.mask_large, visual, language)
    if layers.fusion is None:
        return small, medium, large
    size = (large.shape[-2], large.shape[-1])
    return small, medium, layers.fusion(torch.cat([enlarged(small, size), enlarged(medium, size), large], dim=1))


def respond(
    head: MaskHead, visual: Float[Tensor, "b v h w"], language: Float[Tensor, "b d h2 w2"]
) -> Float[Tensor, "b 1 h w"]:
    """Return the response (logits) of a mask head at the size of the visual features."""
    height, width = visual.shape[-2:]
    where = repeat(coordinates(height, width, visual.device, visual.dtype), "k h w -> b k h w", b=len(visual))
    response: Tensor = head(torch.cat([visual, enlarged(language, (height, width)), where], dim=1))
    return response
