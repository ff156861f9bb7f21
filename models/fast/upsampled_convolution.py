"""Exact convolutions over upsampled maps and over coordinates, borders included, without materialising either.

A 3x3 convolution over concatenated maps is the sum of one convolution per map. Over bilinearly upsampled maps it is
U T U^T: T (the taps) are the products of the small maps with the nine slices of the weight, and U is the interpolation
matrix, shifted by -1, 0 and 1 rows with zeros beyond the border. Each coordinate is constant or linear in x or y, so
three more columns (one per shift) for each of the functions 1 and position add the coordinates and the bias.
"""

from functools import lru_cache

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def enlarged(maps: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
    """Return the maps upsampled bilinearly (`align_corners=False`) to a size, or unchanged if they have that size."""
    if (maps.shape[-2], maps.shape[-1]) == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def convolve_enlarged(
    maps: Float[Tensor, "b c h w"], weight: Float[Tensor, "o c 3 3"], size: tuple[int, int]
) -> Float[Tensor, "b o h2 w2"]:
    """Return a 3x3 convolution, with zero padding and without bias, over the maps upsampled to a size."""
    height, width = maps.shape[-2:]
    slices = rearrange(weight, "o c y x -> (o y x) c 1 1")
    taps = functional.conv2d(maps, slices)
    taps = rearrange(taps, "b (o y x) h w -> b o (y h) (x w)", y=3, x=3)
    rows = shifted_interpolation(height, size[0], maps.dtype, maps.device)
    columns = shifted_interpolation(width, size[1], maps.dtype, maps.device)
    return rows @ taps @ columns.T


def enlarged_columns(
    words: Float[Tensor, "b h w d"], of_words: Float[Tensor, "d n"], of_places: Float[Tensor, "6 6 o"], width: int
) -> Float[Tensor, "b r n2"]:
    """Return the right factor of a 3x3 convolution over upsampled words and coordinates; see `described_rows`.

    Channels are last. `of_words` are the nine slices of the weight side by side; `of_places` is from `place_weights`.
    """
    outputs = of_places.shape[-1]
    taps = rearrange(words @ of_words, "b h w (y x o) -> b y h (x w) o", y=3, x=3, o=outputs)
    columns = shifted_interpolation(words.shape[2], width, words.dtype, words.device)
    places = shifted_places(width, words.dtype, words.device) @ of_places
    return torch.cat(
        [
            rearrange(columns @ taps, "b y h w o -> b (y h) (w o)"),
            repeat(places, "r w o -> b r (w o)", b=len(words)),
        ],
        dim=1,
    )


def described_rows(
    length: int, size: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "{size} 3*{length}+6"]:
    """Return the left factor of the convolution, whose right factor is `enlarged_columns`."""
    return torch.cat([shifted_interpolation(length, size, dtype, device), shifted_places(size, dtype, device)], dim=1)


def place_weights(
    weight: Float[Tensor, "o 8 3 3"], bias: Float[Tensor, " o"], size: tuple[int, int]
) -> Float[Tensor, "6 6 o"]:
    """Return the weights of products of a function of y and a function of x that convolve coordinates and add a bias.

    The functions are those of `shifted_places`. Each of the coordinates of `models.spatial.coordinates` is a constant,
    or xmin or ymin plus a constant.
    """
    height, width = size
    xmin, ymin, xmax, ymax, xctr, yctr, x_size, y_size = rearrange(weight, "o k y x -> k y x o")
    constant = (2 * xmax + xctr + x_size) / width + (2 * ymax + yctr + y_size) / height
    constant = constant + functional.pad(bias, (len(bias) * 4, len(bias) * 4)).view(3, 3, -1)
    across, down = xmin + xmax + xctr, ymin + ymax + yctr
    return torch.cat([torch.cat([constant, across], 1), torch.cat([down, torch.zeros_like(down)], 1)], 0)


@lru_cache(maxsize=64)
def shifted_interpolation(
    length: int, size: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> Float[Tensor, "n m"]:
    """Return the matrix U: three blocks that interpolate `length` values to `size`, shifted by -1, 0 and 1 rows."""
    with torch.inference_mode(False), torch.no_grad():
        unit = torch.eye(length, dtype=torch.float64)[:, None]
        matrix = functional.interpolate(unit, size=size, mode="linear", align_corners=False)[:, 0].T
        return shifted(matrix).to(device, dtype)


@lru_cache(maxsize=64)
def shifted_places(size: int, dtype: torch.dtype, device: torch.device | None = None) -> Float[Tensor, "n 6"]:
    """Return the functions 1 and xmin (or ymin) of `size` positions as columns, each shifted by -1, 0 and 1 rows."""
    with torch.inference_mode(False), torch.no_grad():
        corners = torch.arange(size, dtype=torch.float64)[:, None] * 2 / size - 1
        return torch.cat([shifted(torch.ones_like(corners)), shifted(corners)], dim=1).to(device, dtype)


def shifted(matrix: Float[Tensor, "n m"]) -> Float[Tensor, "n 3*m"]:
    """Return three copies of the matrix side by side, their rows shifted by -1, 0 and 1 and filled with zeros."""
    framed = functional.pad(matrix, (0, 0, 1, 1))
    return torch.cat([framed[shift : shift + len(matrix)] for shift in range(3)], dim=1)
