"""The fast decoder, which computes the values of `models.plain`, borders included, at lower cost.

Concatenated inputs are convolved separately. Words are convolved before they are upsampled, and coordinates are never
materialised (`upsampled_convolution`). The layers between the medium map and the large head's first ReLU are fused into
one convolution (`fused_upsampling`). 3x3 convolutions take a quarter of the multiplications (`winograd`). Maps are
channels last. Without gradients the large head runs strip by strip, and prepared weights are cached (`weight_cache`).
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.fast.convolution import Finish, convolve, convolve_each, convolve_rows, in_parts, prepared_weight, tiled
from models.fast.fused_upsampling import Chain, Frame, Framed, frame, fused_bias, fused_weight
from models.fast.upsampled_convolution import convolve_enlarged, described_rows, enlarged_columns, place_weights
from models.fast.winograd import pixels
from models.layers import STEP, Layers, MaskHead
from models.spatial import CHANNELS

STRIP = 16  # rows of the medium map that the large head processes at a time, so that they stay in the CPU's cache


@dataclass(frozen=True)
class HeadWeights:
    """The prepared weights of a mask head, in the dtype to compute in, except `places` and `bias`.

    The first layer's weights are split into those of visual features, words and coordinates (`places`).
    """

    visual: Tensor
    words: Float[Tensor, "d n"]
    places: Float[Tensor, "o 8 3 3"]
    bias: Float[Tensor, " o"]
    second: Float[Tensor, "o o 3 3"]
    second_bias: Float[Tensor, " o"]
    last: Float[Tensor, " o"]
    last_bias: Float[Tensor, " 1"]


@dataclass(frozen=True)
class Weights:
    """The prepared weights of the decoder's layers, as `weights_of` returns them."""

    small: HeadWeights
    medium: HeadWeights
    large: HeadWeights
    transposed: Tensor
    transposed_bias: Float[Tensor, " c"]
    smoothing: Tensor
    smoothing_bias: Float[Tensor, " c"]
    chain: Chain
    chain_bias: Float[Tensor, " o"]  # bias of the chain inside the frame; also a part of the large head's bias
    fusion: tuple[Float[Tensor, "1 3 3 3"], Float[Tensor, " 1"]] | None  # weight and bias


def weights_of(layers: Layers, dtype: torch.dtype) -> Weights:
    """Return the prepared weights of the layers, fused in the layers' own dtype and then cast to `dtype`."""
    upsample, fusion = layers.upsample_medium, layers.fusion
    chain = Chain.of(layers.upsample_large, layers.mask_large.first.weight[:, : layers.channels[1]])
    of_chain = fused_bias(chain)
    return Weights(
        small=head_weights(layers.mask_small, upsample.transposed.in_channels, dtype),
        medium=head_weights(layers.mask_medium, layers.channels[0], dtype),
        large=head_weights(layers.mask_large, layers.channels[1], dtype, fused_weight(chain), of_chain),
        transposed=upsample.transposed.weight.to(dtype, memory_format=transposed_layout()),
        transposed_bias=present(upsample.transposed.bias).to(dtype),
        smoothing=prepared_weight(upsample.smoothing.weight.to(dtype)),
        smoothing_bias=present(upsample.smoothing.bias).to(dtype),
        chain=chain.to(dtype),
        chain_bias=of_chain.to(dtype),
        fusion=None if fusion is None else (fusion.weight.to(dtype), present(fusion.bias).to(dtype)),
    )


def head_weights(
    head: MaskHead,
    channels: int,
    dtype: torch.dtype,
    composed: Float[Tensor, "n c 3 3"] | None = None,
    of_composed: Float[Tensor, " o"] | None = None,
) -> HeadWeights:
    """Return the prepared weights of a mask head that reads `channels` visual channels.

    `composed` replaces the visual weights of its first layer, and `of_composed` is added to the bias of that layer.
    """
    first, bias = head.first.weight, present(head.first.bias)
    visual = first[:, :channels] if composed is None else composed
    return HeadWeights(
        visual=prepared_weight(visual.to(dtype)),
        words=rearrange(first[:, channels:-CHANNELS], "o d y x -> d (y x o)").to(dtype),
        places=first[:, -CHANNELS:],
        bias=bias if of_composed is None else bias + of_composed,
        second=head.second.weight.to(dtype, memory_format=torch.channels_last),
        second_bias=present(head.second.bias).to(dtype),
        last=head.last.weight.flatten().to(dtype),
        last_bias=present(head.last.bias).to(dtype),
    )


def present(bias: Tensor | None) -> Tensor:
    """Return the bias of a layer. Raises TypeError if the layer has none."""
    if bias is None:
        raise TypeError("the decoder's layers have biases")
    return bias


def decode(
    weights: Weights, visual: Float[Tensor, "b v h w"], language: Float[Tensor, "b d h w"]
) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 h2 w2"], Float[Tensor, "b 1 h3 w3"]]:
    """Return the small, medium and fused response (without fusion: the large one); all tensors have the same dtype."""
    height, width = visual.shape[-2:]
    words = rearrange(language, "b d h w -> b h w d")
    small = respond(weights.small, convolve(rearrange(visual, "b v h w -> b h w v"), weights.small.visual), words)
    maps = upsampled(weights, visual)
    if in_parts(maps):
        medium = respond(weights.medium, convolve(maps, weights.medium.visual), words)
        large = respond_by_sentence(weights, maps, words)
    else:
        tiles, of_large = convolve_each(maps, [weights.medium.visual, weights.large.visual])
        medium = respond(weights.medium, pixels(tiles, maps.shape[1], maps.shape[2]), words)
        large = respond_large(weights, maps, of_large, words)
    small, medium, large = (rearrange(response, "b h w -> b 1 h w") for response in (small, medium, large))
    if weights.fusion is None:
        return small, medium, large
    weight, bias = weights.fusion
    of_small, of_medium, of_large = weight.split(1, dim=1)
    size = (STEP**2 * height, STEP**2 * width)
    fused = functional.conv2d(large, of_large, bias, padding=1)
    fused = fused + convolve_enlarged(small, of_small, size)
    return small, medium, fused + convolve_enlarged(medium, of_medium, size)


def transposed_layout() -> torch.memory_format:
    """Return the memory format that is fastest for transposed convolutions on a CPU, with or without gradients."""
    return torch.contiguous_format if torch.is_grad_enabled() else torch.channels_last


def upsampled(weights: Weights, visual: Float[Tensor, "b v h w"]) -> Float[Tensor, "b h2 w2 c"]:
    """Return the visual features at medium resolution, channels last."""
    finer = functional.conv_transpose2d(
        visual.contiguous(memory_format=transposed_layout()),
        weights.transposed,
        weights.transposed_bias,
        stride=STEP,
        padding=STEP // 2,
    )
    return convolve(rearrange(finer, "b c h w -> b h w c"), weights.smoothing) + weights.smoothing_bias


def respond(
    head: HeadWeights, visual: Float[Tensor, "b h w o"], words: Float[Tensor, "b h2 w2 d"]
) -> Float[Tensor, "b h w"]:
    """Return the response of a mask head; `visual` is the first layer's convolution of the visual features."""
    rows, columns = described(head, words, (visual.shape[1], visual.shape[2]))
    first = rearrange(visual, "b h w o -> b h (w o)")
    first = torch.baddbmm(first, rows.expand(len(words), -1, -1), columns).relu_()
    return finished(head, first, (1, 1))


def described(
    head: HeadWeights, words: Float[Tensor, "b h w d"], size: tuple[int, int]
) -> tuple[Float[Tensor, "h2 r"], Float[Tensor, "b r n"]]:
    """Return two matrices whose product is the first layer's convolution of words and coordinates, plus its bias."""
    of_places = place_weights(head.places, head.bias, size).to(words.dtype)
    rows = described_rows(words.shape[1], size[0], words.dtype, words.device)
    return rows, enlarged_columns(words, head.words, of_places, size[1])


def respond_large(
    weights: Weights,
    maps: Float[Tensor, "b h w c"],
    tiles: Float[Tensor, "m m b y x o"],
    words: Float[Tensor, "b h2 w2 d"],
) -> Float[Tensor, "b 4*h 4*w"]:
    """Return the large head's response for the whole batch; `tiles` are the fused convolution of `maps`."""
    head, size = weights.large, (STEP * maps.shape[1], STEP * maps.shape[2])
    sides = frame(maps, weights.chain, weights.chain_bias)
    rows, columns = described(head, words, size)
    first = Framed.apply(tiles, sides.left, sides.right, sides.top, sides.bottom)
    first = first.baddbmm_(rows.expand(len(words), -1, -1), columns).relu_()
    return finished(head, first, (1, 1))


def respond_by_sentence(
    weights: Weights, maps: Float[Tensor, "b h w c"], words: Float[Tensor, "b h2 w2 d"]
) -> Float[Tensor, "b 4*h 4*w"]:
    """Return the large head's response, computed for one sentence after the other and strip by strip.

    This is faster on a CPU without gradients.
    """
    head, size = weights.large, (STEP * maps.shape[1], STEP * maps.shape[2])
    sides = frame(maps, weights.chain, weights.chain_bias)
    rows, columns = described(head, words, size)
    each = zip(maps.split(1), map(sides.of, range(len(maps))), columns.split(1), strict=True)
    return torch.cat([respond_in_strips(head, one, frame_of, rows, of_words) for one, frame_of, of_words in each])


def respond_in_strips(
    head: HeadWeights,
    maps: Float[Tensor, "1 h w c"],
    sides: Frame,
    rows: Float[Tensor, "4*h r"],
    columns: Float[Tensor, "1 r n"],
) -> Float[Tensor, "1 4*h 4*w"]:
    """Return the large head's response to one sentence, strip by strip.

    The second layer runs one row behind the first, because it also reads the row below.
    """
    responses = []
    height = maps.shape[1]
    above = torch.zeros_like(columns[:, :1])
    for start in range(0, height, STRIP):
        end = min(start + STRIP, height)
        inside = slice(STEP * start, STEP * end)
        top, bottom = sides.top if start == 0 else None, sides.bottom if end == height else None
        tiles = convolve_rows(maps, head.visual, start, end)
        strip = Framed.apply(tiles, sides.left[:, inside], sides.right[:, inside], top, bottom)
        used = rows[inside].any(0).nonzero().flatten()  # few rows of the words contribute to a strip
        strip.baddbmm_(rows[None, inside, used], columns[:, used]).relu_()
        strip = torch.cat([above, strip, *([] if bottom is None else [torch.zeros_like(strip[:, :1])])], dim=1)
        above = strip[:, -2:]
        responses.append(finished(head, strip, (0, 1)))
    return torch.cat(responses, dim=1)


def finished(head: HeadWeights, first: Float[Tensor, "b h n"], padding: tuple[int, int]) -> Float[Tensor, "b h2 w"]:
    """Return the output of a mask head's last two layers for the output of its first layer after ReLU.

    `padding` is the zero padding (vertical, horizontal) of the second layer.
    """
    maps = rearrange(first, "b h (w c) -> b c h w", c=len(head.last))
    if tiled(maps) and torch.is_grad_enabled():
        response: Tensor = Finish.apply(maps, head.second, head.second_bias, head.last, head.last_bias)
        return response
    second = functional.conv2d(maps, head.second, head.second_bias, padding=padding)
    return rearrange(second, "b c h w -> b h w c").relu_() @ head.last + head.last_bias
