"""Convolutions by tiles equal direct ones: values and gradients, for any size and in float32 as accurately."""

import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from models.fast.winograd import (
    POINTS,
    STEP,
    TAPS,
    WINDOW,
    multiplied,
    pixels,
    tiles_over,
    toom_cook,
    transformed_maps,
    transformed_weight,
)


def by_tiles(maps: Tensor, weight: Tensor) -> Tensor:
    height, width = maps.shape[1:3]
    ready = transformed_maps(maps, 1, tiles_over(height))
    return pixels(multiplied([ready], [transformed_weight(weight)]), height, width)


def direct(maps: Tensor, weight: Tensor) -> Tensor:
    outputs = functional.conv2d(rearrange(maps, "b h w c -> b c h w"), weight, padding=1)
    return rearrange(outputs, "b o h w -> b h w o")


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def test_a_quarter_of_the_multiplications():
    assert WINDOW**2 / (STEP * TAPS) ** 2 == 1 / 4
    assert [tiles_over(length) for length in (1, 4, 5, 128)] == [1, 1, 2, 32]


@pytest.mark.parametrize("points", [POINTS, (0.0, 1.0, -1.0, 2.0, -2.0)])
def test_six_products_give_four_sums_of_three(points):
    """(1, 2, 3, 4, 5, 6) with taps (100, 10, 1): 123, 234, 345, 456."""
    inputs, weights, outputs = toom_cook(points)
    products = (inputs @ [1, 2, 3, 4, 5, 6]) * (weights @ [100, 10, 1])
    np.testing.assert_allclose(outputs @ products, [123, 234, 345, 456], rtol=1e-13)


@settings(deadline=None, max_examples=25)
@given(size=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 2**31))
def test_outputs_and_gradients_equal_the_direct_form_at_the_borders_too(size, seed):
    maps = normal(2, *size, 3, seed=seed).requires_grad_()
    weight = normal(4, 3, 3, 3, seed=seed + 1).requires_grad_()
    ours, expected = by_tiles(maps, weight), direct(maps, weight)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    pull = normal(*expected.shape, seed=seed + 2)
    wanted = torch.autograd.grad(expected, (maps, weight), pull)
    for found, gradient in zip(torch.autograd.grad(ours, (maps, weight), pull), wanted, strict=True):
        torch.testing.assert_close(found, gradient, rtol=0, atol=1e-11)


def test_several_convolutions_are_summed():
    maps, weights = normal(2, 1, 4, 8, 3), normal(2, 5, 3, 3, 3, seed=1)
    ready = [transformed_maps(each, 1, 1) for each in maps]
    found = pixels(multiplied(ready, [transformed_weight(weight) for weight in weights]), 4, 8)
    expected = direct(maps[0], weights[0]) + direct(maps[1], weights[1])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_float32_is_as_accurate_as_a_direct_convolution():
    """The point of the points: with 0, 1, -1, 2, -2 the largest error is four times the direct one's."""
    maps, weight = normal(1, 32, 32, 64).relu(), normal(64, 64, 3, 3, seed=1) / 24
    exact = direct(maps, weight)
    library = (direct(maps.float(), weight.float()).double() - exact).abs().max()
    ours = (by_tiles(maps.float(), weight.float()).double() - exact).abs().max()
    assert 0 < ours < 2.5 * library


def test_what_is_kept_in_inference_serves_training():
    with torch.inference_mode():
        by_tiles(torch.ones(1, 4, 4, 1), torch.ones(1, 1, 3, 3))
    maps = torch.ones(1, 4, 4, 1, requires_grad=True)
    by_tiles(maps, torch.ones(1, 1, 3, 3)).sum().backward()
    assert maps.grad is not None
    # how many of the nine places around each pixel lie in the map
    counts = torch.tensor([2.0, 3, 3, 2])
    torch.testing.assert_close(maps.grad[0, :, :, 0], counts[:, None] * counts)
