"""3x3 convolutions with zero padding of channels-last maps, by Winograd tiles where that is faster.

Tiles (`models.fast.winograd`) are used for float32 and float64 on a CPU: in bfloat16 their rounding error is too large,
and GPU libraries use the method themselves. On a CPU without gradients, maps are convolved some rows at a time.
"""

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.fast.winograd import multiplied, pixels, tiles_over, transformed_maps, transformed_weight

CHUNK = 32  # rows convolved at a time, a multiple of `winograd.STEP`


def working_precision(own: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype to compute in for weights of dtype `own`: autocast's dtype if autocast is enabled."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else own


def tiled(tensor: Tensor) -> bool:
    """Return whether convolutions of a tensor of this device and dtype are computed by Winograd tiles."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def in_parts(maps: Tensor) -> bool:
    """Return whether maps are convolved some rows at a time, so that the rows stay in the CPU's cache."""
    return maps.device.type == "cpu" and not torch.is_grad_enabled()


def prepared_weight(weight: Float[Tensor, "o c 3 3"]) -> Float[Tensor, "o c 3 3"] | Float[Tensor, "36 c o"]:
    """Return a weight in the form that `convolve`, `convolve_each` and `convolve_rows` take."""
    return transformed_weight(weight) if tiled(weight) else weight.contiguous(memory_format=torch.channels_last)


def convolve(maps: Float[Tensor, "b h w c"], weight: Tensor) -> Float[Tensor, "b h w o"]:
    """Return the convolution of maps with a prepared weight."""
    height, width = maps.shape[1:3]
    step = CHUNK if in_parts(maps) else height
    chunks = [(start, min(start + step, height)) for start in range(0, height, step)]
    rows = [pixels(convolve_rows(maps, weight, start, end), end - start, width) for start, end in chunks]
    return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)


def convolve_each(maps: Float[Tensor, "b h w c"], weights: Sequence[Tensor]) -> list[Float[Tensor, "m m b y x _"]]:
    """Return the convolutions of the same maps with several prepared weights, as tiles of m x m pixels.

    The maps are transformed only once.
    """
    height = maps.shape[1]
    if not tiled(maps):
        return [convolve_rows(maps, weight, 0, height) for weight in weights]
    transformed = [transformed_maps(maps, 1, tiles_over(height))]
    return [multiplied(transformed, [weight]) for weight in weights]


def convolve_rows(
    maps: Float[Tensor, "b h w c"], weight: Tensor, start: int, end: int
) -> Float[Tensor, "m m b y2 x2 o"]:
    """Return rows `start` to `end` of the convolution as tiles of m x m pixels; `start` is a multiple of 4."""
    above, below = int(start == 0), int(end == maps.shape[1])
    maps = maps[:, start - 1 + above : end + 1 - below]
    if tiled(maps):
        return multiplied([transformed_maps(maps, above, tiles_over(end - start))], [weight])
    framed = rearrange(functional.pad(maps, (0, 0, 1, 1, above, below)), "b h w c -> b c h w")
    return rearrange(functional.conv2d(framed, weight), "b o y x -> 1 1 b y x o")


class Finish(torch.autograd.Function):
    """The last two layers of a mask head: a 3x3 convolution, ReLU, and a 1x1 convolution to one channel.

    Both passes run strip by strip. The backward pass computes the activations again, so that none are kept in memory.
    """

    @staticmethod
    def forward(
        ctx: Any,
        maps: Float[Tensor, "b c h w"],
        weight: Float[Tensor, "c c 3 3"],
        bias: Float[Tensor, " c"],
        last: Float[Tensor, " c"],
        last_bias: Float[Tensor, " 1"],
    ) -> Float[Tensor, "b h w"]:
        """Return the response (logits)."""
        ctx.save_for_backward(maps, weight, bias, last)
        strips = (activated(strip(maps, start), weight, bias) for start in range(0, maps.shape[2], CHUNK))
        return torch.cat([rearrange(rows, "b c y x -> b y x c") @ last + last_bias for rows in strips], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "b h w"]) -> tuple[Tensor, ...]:
        """Return the gradients of all five inputs."""
        maps, weight, bias, last = ctx.saved_tensors
        (pull,) = gradients
        height = maps.shape[2]
        of_maps = torch.zeros_like(maps)
        of_weight = torch.zeros_like(weight, memory_format=torch.contiguous_format)
        of_bias, of_last = torch.zeros_like(bias), torch.zeros_like(last)
        for start in range(0, height, CHUNK):
            rows, of_rows = strip(maps, start), pull[:, start : start + CHUNK]
            second = activated(rows, weight, bias)
            of_last += torch.einsum("bcyx,byx->c", second, of_rows)
            of_second = (second > 0) * last[:, None, None] * of_rows[:, None]
            of_bias += of_second.sum((0, 2, 3))
            of_strip = convolution_gradient(of_second, rows, weight, 0)
            first, end = max(start - 1, 0), min(start + CHUNK + 1, height)
            of_maps[:, :, first:end] += of_strip[:, :, first - start + 1 : end - start + 1]
            # On a CPU this gradient takes six times longer in channels-last memory.
            of_weight += convolution_gradient(of_second.contiguous(), rows.contiguous(), of_weight, 1)
        return of_maps, of_weight, of_bias, of_last, pull.sum().reshape(1)


def strip(maps: Float[Tensor, "b c h w"], start: int) -> Float[Tensor, "b c y w"]:
    """Return `CHUNK` rows of the maps with one row above and one below, which are zeros outside the maps."""
    above, below = int(start == 0), int(start + CHUNK >= maps.shape[2])
    return functional.pad(maps[:, :, start - 1 + above : start + CHUNK + 1], (0, 0, above, below))


def activated(
    rows: Float[Tensor, "b c y w"], weight: Float[Tensor, "c c 3 3"], bias: Float[Tensor, " c"]
) -> Float[Tensor, "b c y2 w"]:
    """Return the convolution of a strip, followed by ReLU."""
    return functional.conv2d(rows, weight, bias, padding=(0, 1)).relu_()


def convolution_gradient(pull: Tensor, rows: Tensor, weight: Tensor, which: int) -> Tensor:
    """Return the gradient of a strip's convolution with respect to the strip (`which` 0) or to the weight (1)."""
    wanted = [which == 0, which == 1, False]
    settings = ([1, 1], [0, 1], [1, 1], False, [0, 0], 1, wanted)
    gradient: Tensor = torch.ops.aten.convolution_backward(pull, rows, weight, None, *settings)[which]
    return gradient
