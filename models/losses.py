"""The training loss (paper section 3.5)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from models.decoder import Responses


@dataclass(frozen=True)
class Targets:
    """Target masks at the three resolutions, with values 0 and 1."""

    small: UInt8[Tensor, "b h w"]
    medium: UInt8[Tensor, "b 4*h 4*w"]
    large: UInt8[Tensor, "b 16*h 16*w"]


def response_losses(responses: Responses, targets: Targets, foreground_weight: float) -> Float[Tensor, "3"]:
    """Return the weighted mean binary cross entropy of the small, medium and large response.

    Foreground pixels have the weight `foreground_weight`. As in the authors' code the mean divides by the number of
    pixels, not by the sum of their weights. Training minimises the sum of the three losses.
    """
    pairs = (
        (responses.small, targets.small),
        (responses.medium, targets.medium),
        (responses.large, targets.large),
    )
    return torch.stack([weighted_cross_entropy(logits, mask, foreground_weight) for logits, mask in pairs])


def weighted_cross_entropy(
    logits: Float[Tensor, "b h w"], mask: UInt8[Tensor, "b h w"], foreground_weight: float
) -> Float[Tensor, ""]:
    """Return the mean binary cross entropy of logits; the loss of foreground pixels is multiplied by the weight."""
    weight = torch.tensor(foreground_weight, dtype=logits.dtype, device=logits.device)
    return functional.binary_cross_entropy_with_logits(logits, mask.to(logits.dtype), pos_weight=weight)
