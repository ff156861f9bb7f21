"""A transposed convolution and the two 3x3 convolutions after it as one 3x3 convolution to sixteen pixels a pixel.

ConvTranspose k8 s4, Conv3x3 and the visual slice of the next Conv3x3 have no activation between them: together they
are a ConvTranspose k12 s4. It is exact but for the outermost two pixels, where the zeros that pad the maps in between
count; those four strips, the frame, are computed layer by layer.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.layers import STEP, Upsampler

EDGE = 2  # pixels


@dataclass(frozen=True)
class Chain:
    """The weights of the layers that are composed: the last one's are those of its visual inputs, and has no bias."""

    transposed: Float[Tensor, "c v 8 8"]
    transposed_bias: Float[Tensor, " v"]
    smoothing: Float[Tensor, "v v 3 3"]
    smoothing_bias: Float[Tensor, " v"]
    first: Float[Tensor, "o v 3 3"]

    @classmethod
    def of(cls, upsampler: Upsampler, first: Float[Tensor, "o v 3 3"]) -> "Chain":
        """Return the chain of an upsampler and what follows it."""
        transposed, smoothing = upsampler.transposed, upsampler.smoothing
        if transposed.bias is None or smoothing.bias is None:
            raise TypeError(f"an upsampler has biases, not {upsampler}")
        return cls(transposed.weight, transposed.bias, smoothing.weight, smoothing.bias, first)

    def to(self, dtype: torch.dtype) -> "Chain":
        """Return the chain in a precision."""
        return Chain(*(tensor.to(dtype) for tensor in vars(self).values()))

    def turned(self) -> "Chain":
        """Return the chain for maps whose rows are columns."""
        return Chain(*(tensor.mT if tensor.ndim == 4 else tensor for tensor in vars(self).values()))


def fused_weight(chain: Chain) -> Float[Tensor, "n c 3 3"]:
    """Return the weight of the one convolution; its outputs are rows, columns (4 x 4 pixels) and channels."""
    five = functional.conv_transpose2d(chain.first, chain.smoothing)
    # Channels last, because that takes a CPU a third of the time.
    five, eight = (weight.contiguous(memory_format=torch.channels_last) for weight in (five, chain.transposed))
    twelve = functional.conv2d(eight, five, padding=STEP)
    return rearrange(twelve, "c o (i r) (j s) -> (r s o) c i j", r=STEP, s=STEP).flip(2, 3)


def fused_bias(chain: Chain) -> Float[Tensor, " o"]:
    """Return what the biases come to inside the frame."""
    smoothed = chain.smoothing_bias + chain.smoothing.sum((2, 3)) @ chain.transposed_bias
    return chain.first.sum((2, 3)) @ smoothed


@dataclass(frozen=True)
class Frame:
    """The outermost two pixels, channels last; the corners are in all four."""

    top: Float[Tensor, "b 2 w o"]
    bottom: Float[Tensor, "b 2 w o"]
    left: Float[Tensor, "b h 2 o"]
    right: Float[Tensor, "b h 2 o"]

    def of(self, index: int) -> "Frame":
        """Return the frame of one of the maps."""
        return Frame(*(side[index : index + 1] for side in vars(self).values()))


def frame(maps: Float[Tensor, "b h w c"], chain: Chain, bias: Float[Tensor, " o"]) -> Frame:
    """Return the frame of what the chain makes of maps, layer by layer, less the bias that is inside it."""
    upright, turned = rearrange(maps, "b h w c -> b c h w"), rearrange(maps, "b h w c -> b c w h")
    sides = [edge(upright, chain, 0), edge(upright, chain, 1)]
    sides += [edge(turned, chain.turned(), 0), edge(turned, chain.turned(), 1)]
    top, bottom = (rearrange(side, "b o h w -> b h w o") - bias for side in sides[:2])
    left, right = (rearrange(side, "b o w h -> b h w o") - bias for side in sides[2:])
    return Frame(top, bottom, left, right)


def edge(maps: Float[Tensor, "b c h w"], chain: Chain, last: int) -> Float[Tensor, "b o 2 w2"]:
    """Return the first (or last) two rows of what the chain makes of maps."""
    # Two rows of outputs take three of the layer before and these four of the one before it. Those four get the middle
    # rows of the taps from the outermost row of the maps, and half of them the outermost ones from the row next to it.
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
    """The pixels of some rows in order, and the frame in its place. Without it the gradient of each side is a copy."""

    @staticmethod
    def forward(
        ctx: Any,
        tiles: Float[Tensor, "m m b y x n"],
        left: Float[Tensor, "b h 2 o"],
        right: Float[Tensor, "b h 2 o"],
        top: Float[Tensor, "b 2 w o"] | None,
        bottom: Float[Tensor, "b 2 w o"] | None,
    ) -> Float[Tensor, "b h _"]:
        """Return rows of pixels, 4 x 4 for each pixel of the tiles that `convolve_rows` returned."""
        ctx.ends, ctx.step, ctx.channels = (top is not None, bottom is not None), len(tiles), left.shape[-1]
        batch, height, width = len(left), left.shape[1], STEP * len(tiles) * tiles.shape[4]
        rows = tiles.new_empty(batch, height, width * ctx.channels)  # no view: what comes next is done in place
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
        """Return each pixel's gradient to where it came from."""
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
