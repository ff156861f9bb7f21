"""Convolutions over enlarged maps, without enlarging them first: exact, borders included, and many times cheaper.

A 3x3 convolution over concatenated maps is the sum of one over each. Over maps enlarged by bilinear interpolation it is
U (taps of the small maps) U^T, where the taps are products with the nine slices of the weights and U holds the
interpolation, shifted by -1, 0 and 1 rows with zeros beyond the border.
"""

from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def enlarged(maps: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
    """Return the maps at a size, bilinear with aligned pixel areas (the same maps where they have it)."""
    if (maps.shape[-2], maps.shape[-1]) == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def convolve_enlarged(
    maps: Float[Tensor, "b c h w"], weight: Float[Tensor, "o c 3 3"], size: tuple[int, int]
) -> Float[Tensor, "b o h2 w2"]:
    """Return what a 3x3 convolution with zero padding and without bias gives on the maps enlarged to a size."""
    height, width = maps.shape[-2:]
    slices = rearrange(weight, "o c y x -> (o y x) c 1 1")
    taps = functional.conv2d(maps, slices)
    taps = rearrange(taps, "b (o y x) h w -> b o (y h) (x w)", y=3, x=3)
    rows = shifted_interpolation(height, size[0]).to(maps)
    columns = shifted_interpolation(width, size[1]).to(maps)
    return rows @ taps @ columns.T


@lru_cache(maxsize=32)
def shifted_interpolation(length: int, size: int) -> Float[Tensor, "n m"]:
    """Return U in float64: its blocks interpolate `length` values to `size` and shift the result by -1, 0 and 1."""
    with torch.inference_mode(False), torch.no_grad():
        unit = torch.eye(length, dtype=torch.float64)[:, None]
        matrix = functional.interpolate(unit, size=size, mode="linear", align_corners=False)[:, 0].T
        framed = functional.pad(matrix, (0, 0, 1, 1))
        return torch.cat([framed[shift : shift + size] for shift in range(3)], dim=1)
