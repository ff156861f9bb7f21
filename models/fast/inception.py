"""A fast inception block with the values of `models.backbones.i3d.Mixed`, including the running statistics.

1x1x1 convolutions are matrix products (three of them share one product), and a 3x3x3 convolution is the sum of three
3x3 convolutions by Winograd tiles. In bfloat16 the matrix products also avoid a defect of torch 2.14.1, in which the
backward pass of a 1x1x1 `Conv3d` hangs on CPUs.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from models.backbones.i3d import Mixed, Unit
from models.fast.convolution import prepared_weight, tiled
from models.fast.winograd import multiplied, pixels, tiles_over, transformed_maps


def mixed(block: Mixed, maps: Float[Tensor, "b f t h w"]) -> Float[Tensor, "b t h w g"]:
    """Return the concatenated maps of the four branches, channels last; `maps` has the dtype to compute in."""
    rows = rearrange(maps, "b f t h w -> b t h w f")
    (direct,) = units(block, "branch_0")
    reduced_1, cube_1 = units(block, "branch_1")
    reduced_2, cube_2 = units(block, "branch_2")
    (pooled,) = units(block, "branch_3")
    first, second, third = pointwise((direct, reduced_1, reduced_2), rows)
    pool = block.branch_3[0](maps)
    (fourth,) = pointwise((pooled,), rearrange(pool, "b f t h w -> b t h w f"))
    branches = (first, cube(cube_1, second), cube(cube_2, third), fourth)
    return torch.cat(branches, dim=-1)


def units(block: Mixed, branch: str) -> list[Unit]:
    """Return the units of a branch of the block, in order."""
    return [module for module in block.get_submodule(branch).modules() if isinstance(module, Unit)]


def pointwise(layers: Sequence[Unit], rows: Float[Tensor, "b t h w f"]) -> list[Float[Tensor, "b t h w _"]]:
    """Return the outputs of several units with 1x1x1 convolutions for the same maps, channels last."""
    weights = [rearrange(unit.conv3d.weight, "g f 1 1 1 -> g f") for unit in layers]
    outputs = functional.linear(rows, torch.cat(weights).to(rows.dtype))
    parts = outputs.split([len(weight) for weight in weights], dim=-1)
    return [activated(unit.batch3d, part) for unit, part in zip(layers, parts, strict=True)]


def cube(unit: Unit, rows: Float[Tensor, "b t h w f"]) -> Float[Tensor, "b t h w g"]:
    """Return the output of a unit with a 3x3x3 convolution, channels last."""
    weight = unit.conv3d.weight.to(rows.dtype)
    if not tiled(rows):
        maps = functional.conv3d(rearrange(rows, "b t h w f -> b f t h w"), weight, padding=1)
        return activated(unit.batch3d, rearrange(maps, "b g t h w -> b t h w g"))
    batch, frames, height, width, _ = rows.shape
    pictures = rearrange(rows, "b t h w f -> (b t) h w f")
    tiles = transformed_maps(pictures, 1, tiles_over(height))
    tiles = functional.pad(rearrange(tiles, "p (b t) y x f -> p b t y x f", b=batch), (0, 0, 0, 0, 0, 0, 1, 1))
    parts = [tiles[:, :, shift : shift + frames].flatten(1, 2) for shift in range(3)]
    products = multiplied(parts, [prepared_weight(weight[:, :, shift]) for shift in range(3)])
    outputs = rearrange(pixels(products, height, width), "(b t) h w g -> b t h w g", b=batch)
    return activated(unit.batch3d, exact_zeros(outputs, rows))


def exact_zeros(outputs: Float[Tensor, "b t h w g"], inputs: Float[Tensor, "b t h w f"]) -> Float[Tensor, "b t h w g"]:
    """Return the outputs of a 3x3x3 convolution, set to exactly zero where all inputs in the window are zero.

    Otherwise a rounding error there could pass a gradient through the following ReLU.
    """
    largest = rearrange(inputs.detach().abs().amax(-1), "b t h w -> b 1 t h w")
    some = rearrange(functional.max_pool3d(largest, 3, stride=1, padding=1) > 0, "b 1 t h w -> b t h w 1")
    return torch.where(some, outputs, outputs - outputs.detach())


def activated(norm: nn.Module, rows: Float[Tensor, "b t h w g"]) -> Float[Tensor, "b t h w g"]:
    """Return the rows after batch norm and ReLU."""
    maps: Tensor = norm(rearrange(rows, "b t h w g -> b g t h w"))
    return rearrange(maps, "b g t h w -> b t h w g").relu()
