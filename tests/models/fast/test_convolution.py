"""Convolutions of maps with their channels last: the library's, by whatever way they are computed."""

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from models.fast.convolution import (
    CHUNK,
    Finish,
    convolve,
    convolve_each,
    convolve_rows,
    prepared_weight,
    tiled,
    working_precision,
)
from models.fast.winograd import pixels


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def library(maps: Tensor, weight: Tensor) -> Tensor:
    outputs = functional.conv2d(rearrange(maps, "b h w c -> b c h w"), weight, padding=1)
    return rearrange(outputs, "b o h w -> b h w o")


def test_precision_is_the_weights_own_but_for_autocast():
    cpu = torch.device("cpu")
    assert working_precision(torch.float64, cpu) == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert working_precision(torch.float32, cpu) == torch.bfloat16


@settings(deadline=None, max_examples=10)
@given(height=st.sampled_from([1, 4, CHUNK, CHUNK + 1, 2 * CHUNK + 8]), seed=st.integers(0, 2**31))
def test_maps_convolved_at_once_and_in_chunks_are_the_librarys(height, seed):
    maps, weight = normal(2, height, 5, 3, seed=seed), normal(4, 3, 3, 3, seed=seed + 1)
    expected = library(maps, weight)
    torch.testing.assert_close(convolve(maps, prepared_weight(weight)), expected, rtol=0, atol=1e-12)
    with torch.inference_mode():
        torch.testing.assert_close(convolve(maps, prepared_weight(weight)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_several_convolutions_of_the_same_maps_are_those_of_each(precision):
    maps = normal(2, 9, 5, 3).to(precision)
    weights = [prepared_weight(normal(outputs, 3, 3, 3, seed=outputs).to(precision)) for outputs in (2, 4)]
    for tiles, weight in zip(convolve_each(maps, weights), weights, strict=True):
        torch.testing.assert_close(pixels(tiles, 9, 5), convolve(maps, weight), rtol=0, atol=1e-12)


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_some_rows_are_those_of_the_whole(precision):
    maps, weight = normal(1, 12, 5, 3).to(precision), normal(4, 3, 3, 3, seed=1).to(precision)
    assert tiled(maps) == (precision == torch.float64)
    expected = library(maps.double(), weight.double())
    for start, end in ((0, 4), (4, 8), (8, 12), (0, 12), (4, 12)):
        rows = pixels(convolve_rows(maps, prepared_weight(weight), start, end), end - start, 5)
        tolerance = 1e-12 if precision == torch.float64 else 0.02 * float(expected.abs().max())
        torch.testing.assert_close(rows.double(), expected[:, start:end], rtol=0, atol=tolerance)


@pytest.mark.parametrize("height", [1, CHUNK, CHUNK + 3, 2 * CHUNK])
def test_the_last_two_layers_of_a_head_are_the_librarys(height):
    shapes = [(2, 3, height, 5), (3, 3, 3, 3), (3,), (3,), (1,)]
    inputs = tuple(normal(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes))
    maps, weight, bias, last, last_bias = inputs
    second = functional.conv2d(maps, weight, bias, padding=1).relu()
    expected = torch.einsum("bcyx,c->byx", second, last) + last_bias
    ours = Finish.apply(*inputs)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    pull = normal(*expected.shape, seed=9)
    wanted = torch.autograd.grad(expected, inputs, pull)
    for found, gradient in zip(torch.autograd.grad(ours, inputs, pull), wanted, strict=True):
        torch.testing.assert_close(found, gradient, rtol=0, atol=1e-11)
