"""The decoder: responses at three resolutions, a factor 4 apart, and their fusion (paper section 3.4, eq. 10-12)."""

from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from models import plain
from models.fast import decode
from models.fast.convolution import working_precision
from models.fast.decode import Weights
from models.fast.weight_cache import WeightCache
from models.layers import Layers, Mode


@dataclass(frozen=True)
class Responses:
    """Logits at three resolutions; `large` is the fused response, or the large head's if the network has no fusion."""

    small: Float[Tensor, "b h w"]
    medium: Float[Tensor, "b 4*h 4*w"]
    large: Float[Tensor, "b 16*h 16*w"]


class Decoder(Layers):
    """The decoder of ACGA.

    Mode "plain" applies its layers one by one; mode "fast" computes the same values at lower cost (`models.fast`).
    """

    def __init__(
        self,
        visual_channels: int,
        word_dim: int,
        channels: tuple[int, int],
        widths: tuple[int, int, int],
        fused: bool = True,
        mode: Mode = "fast",
    ) -> None:
        super().__init__(visual_channels, word_dim, channels, widths, fused)
        self.mode = mode
        self.kept: WeightCache[Weights] = WeightCache()

    def forward(self, visual: Float[Tensor, "b v h w"], language: Float[Tensor, "b d h w"]) -> Responses:
        """Return the responses to the attended visual features and words."""
        if self.mode == "plain":
            small, medium, large = plain.decode(self, visual, language)
        else:
            small, medium, large = self.decode_fast(visual, language)
        return Responses(*(rearrange(response, "b 1 h w -> b h w") for response in (small, medium, large)))

    def decode_fast(
        self, visual: Float[Tensor, "b v h w"], language: Float[Tensor, "b d h w"]
    ) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 h2 w2"], Float[Tensor, "b 1 h3 w3"]]:
        """Return the responses in the dtype of the layers; under autocast they are computed in autocast's dtype."""
        own = self.mask_large.last.weight.dtype
        precision = working_precision(own, visual.device)
        with torch.autocast(visual.device.type, enabled=False):
            weights = self.kept.get(tuple(self.parameters()), precision, partial(decode.weights_of, self, precision))
            small, medium, large = decode.decode(weights, visual.to(precision), language.to(precision))
        return small.to(own), medium.to(own), large.to(own)
