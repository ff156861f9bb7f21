"""A transposed convolution and the two 3x3 convolutions after it, fused into one 3x3 convolution.

ConvTranspose(k8, s4), Conv3x3 and the visual slice of the next Conv3x3 have no activation between them, so together
they are a ConvTranspose(k12, s4), computed as a 3x3 convolution to 16 pixels (4 x 4) per input pixel. This is exact
except for the outermost two pixels, where the zero padding of the intermediate maps has an effect. Those four strips,
called the frame, are computed layer by layer.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.layers import STEP, Upsampler

EDGE = 2  # width of the frame in pixels


@dataclass(frozen=True)
class Chain:
    """The weights of the fused layers; `first` are those of the last layer for its visual inputs, without a bias."""

    transposed: Float[Tensor, "c v 8 8"]
    transposed_bias: Float[Tensor, " v"]
    smoothing: Float[Tensor, "v v 3 3"]
    smoothing_bias: Float[Tensor, " v"]
    first: Float[Tensor, "o v 3 3"]

    @classmethod
    def of(cls, upsampler: Upsampler, first: Float[Tensor, "o v 3 3"]) -> "Chain":
        """Return the chain of an upsampler and the convolution after it. Raises TypeError if a bias is missing."""
        transposed, smoothing = upsampler.transposed, upsampler.smoothing
        if transposed.bias is None or smoothing.bias is None:
            raise TypeError(f"an upsampler has biases, not {upsampler}")
        return cls(transposed.weight, transposed.bias, smoothing.weight, smoothing.bias, first)

    def to(self, dtype: torch.dtype) -> "Chain":
        """Return the chain with its weights cast to a dtype."""
        return Chain(*(tensor.to(dtype) for tensor in vars(self).values()))

    def turned(self) -> "Chain":
        """Return the chain for maps whose rows and columns are swapped."""
        return Chain(*(tensor.mT if tensor.ndim == 4 else tensor for tensor in vars(self).values()))


def fused_weight(chain: Chain) -> Float[Tensor, "n c 3 3"]:
    """Return the weight of the fused convolution; its output channels are (4 rows, 4 columns, channels), flattened."""
    five = functional.conv_transpose2d(chain.first, chain.smoothing)
    # In channels-last memory this takes a CPU a third of the time.
    five, eight = (weight.contiguous(memory_format=torch.channels_last) for weight in (five, chain.transposed))
    twelve = functional.conv2d(eight, five, padding=STEP)
    return rearrange(twelve, "c o (i r) (j s) -> (r s o) c i j", r=STEP, s=STEP).flip(2, 3)


def fused_bias(chain: Chain) -> Float[Tensor, " o"]:
    """Return the bias of the fused convolution, which is valid inside the frame."""
    smoothed = chain.smoothing_bias + chain.smoothing.sum((2, 3)) @ chain.transposed_bias
    return chain.first.sum((2, 3)) @ smoothed


@dataclass(frozen=True)
class Frame:
    """The outermost two pixels on each side, channels last; each strip includes its two corners."""

    top: Float[Tensor, "b 2 w o"]
    bottom: Float[Tensor, "b 2 w o"]
    left: Float[Tensor, "b h 2 o"]
    right: Float[Tensor, "b h 2 o"]

    def of(self, index: int) -> "Frame":
        """Return the frame of one map of the batch, as a batch of one."""
        return Frame(*(side[index : index + 1] for side in vars(self).values()))


def frame(maps: Float[Tensor, "b h w c"], chain: Chain, bias: Float[Tensor, " o"]) -> Frame:
    """Return the frame of the chain's output, computed layer by layer, minus the bias of the fused convolution."""
    upright, turned = rearrange(maps, "b h w c -> b c h w"), rearrange(maps, "b h w c -> b c w h")
    sides = [edge(upright, chain, 0), edge(upright, chain, 1)]
    sides += [edge(turned, chain.turned(), 0), edge(turned, chain.turned(), 1)]
    top, bottom = (rearrange(side, "b o h w -> b h w o") - bias for side in sides[:2])
    left, right = (rearrange(side, "b o w h -> b h w o") - bias for side in sides[2:])
    return Frame(top, bottom, left, right)


def edge(maps: Float[Tensor, "b c h w"], chain: Chain, last: int) -> Float[Tensor, "b o 2 w2"]:
    """Return the first (`last` 0) or the last (`last` 1) two rows of the chain's output."""
    # Two rows of the output depend on three rows of the smoothing layer and these on four rows of the transposed
    # convolution. The outermost row of the maps adds the middle rows of the kernel to all four rows; the row next to it
    # adds the outermost rows of the kernel to two of them.
    outermost, other = (maps[:, :, -1:], maps[:, :, -2:-1]) if last else (maps[:, :, :1], maps[:, :, 1:2])
    taps = chain.transposed
    padding = (0, STEP // 2)
    rows = functional.conv_transpose2d(outermost, taps[:, :, 2:-2], chain.transposed_bias, STEP, padding)
    more = functional.conv_transpose2d(other, taps[:, :, -2:] if last else taps[:, :, :2], None, STEP, padding)
    rows = rows + functional.pad(more, (0, 0, 0, 2) if last else (0, 0, 2, 0))
    beyond = (1, 1, 1 - last, last)
    rows = functional.conv2d(functional.pad(rows, beyond), chain.smoothing, chain.smoothing_bias)
    return functional.conv2d(functional.pad(rows, beyond), chain.first)


class Framed(torch.autograd.Function):
    """Rearrangement of tiles into rows of pixels, over whose border the frame is written.

    A custom backward pass avoids a copy of the whole gradient for each of the four sides.
    """

    @staticmethod
    def forward(
        ctx: Any,
        tiles: Float[Tensor, "m m b y x n"],
        left: Float[Tensor, "b h 2 o"],
        right: Float[Tensor, "b h 2 o"],
        top: Float[Tensor, "b 2 w o"] | None,
        bottom: Float[Tensor, "b 2 w o"] | None,
    ) -> Float[Tensor, "b h _"]:
        """Return rows of pixels, 4 x 4 for each pixel of `tiles` (from `convolve_rows`); top and bottom may be None."""
        ctx.ends, ctx.step, ctx.channels = (top is not None, bottom is not None), len(tiles), left.shape[-1]
        batch, height, width = len(left), left.shape[1], STEP * len(tiles) * tiles.shape[4]
        rows = tiles.new_empty(batch, height, width * ctx.channels)  # not a view: it is modified in place later
        pixels = rearrange(rows, "b h (w o) -> b h w o", w=width)
        order = "b (y i r) (x j s) o -> i j b y x r s o"
        rearrange(pixels, order, i=ctx.step, j=ctx.step, r=STEP, s=STEP).copy_(
            rearrange(tiles, "i j b y x (r s o) -> i j b y x r s o", r=STEP, s=STEP)
        )
        pixels[:, :, :EDGE] = left
        pixels[:, :, -EDGE:] = right
        if top is not None:
            pixels[:, :EDGE] = top
        if bottom is not None:
            pixels[:, -EDGE:] = bottom
        return rows

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "b h _"]) -> tuple[Tensor | None, ...]:
        """Return the gradients of the tiles and of the four sides; each pixel belongs to exactly one of them."""
        pixels = rearrange(gradients[0], "b h (w o) -> b h w o", o=ctx.channels)
        height = pixels.shape[1]
        first, last = ctx.ends
        rows = slice(EDGE if first else 0, height - EDGE if last else height)
        left, right = torch.zeros_like(pixels[:, :, :EDGE]), torch.zeros_like(pixels[:, :, :EDGE])
        left[:, rows], right[:, rows] = pixels[:, rows, :EDGE], pixels[:, rows, -EDGE:]
        top = pixels[:, :EDGE].clone() if first else None
        bottom = pixels[:, -EDGE:].clone() if last else None
        order = "b (y i r) (x j s) o -> i j b y x r s o"
        tiles = rearrange(pixels, order, i=ctx.step, j=ctx.step, r=STEP, s=STEP).contiguous()
        tiles[:, 0, :, :, 0, :, :EDGE] = 0
        tiles[:, -1, :, :, -1, :, -EDGE:] = 0
        if first:
            tiles[0, :, :, 0, :, :EDGE] = 0
        if last:
            tiles[-1, :, :, -1, :, -EDGE:] = 0
        return tiles.flatten(5), left, right, top, bottom
