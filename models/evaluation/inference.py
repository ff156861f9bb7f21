"""Inference with a trained network."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from models.acga import ACGA
from models.decoder import Responses


def predict(
    model: ACGA,
    features: Float[Tensor, "c f t h w"],
    words: Float[Tensor, "b l d"],
    clip: Int64[Tensor, " b"] | None = None,
    precision: str = "float32",
) -> Responses:
    """Return each sentence's responses on the model's device and in its dtype, leaving the model in evaluation mode.

    `features` are the trunk's output in any dtype, and `clip` holds the index in them of each sentence's clip; None
    means one clip per sentence. With `precision` "bfloat16" the network runs under autocast. On a CPU the last bits
    depend on the batch size, so runs that are to be compared need the same batch size.
    """
    weight = model.text.convolution.weight
    model.eval()
    with torch.inference_mode(), torch.autocast(weight.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        responses = model(
            features.to(weight.device, weight.dtype),
            words.to(weight.device, weight.dtype),
            None if clip is None else clip.to(weight.device),
        )
    return Responses(*(each.to(weight.dtype) for each in (responses.small, responses.medium, responses.large)))
