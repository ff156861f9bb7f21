"""Convolutions over enlarged maps equal those over the maps enlarged first."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from models.fast.upsampled_convolution import (
    convolve_enlarged,
    described_rows,
    enlarged,
    enlarged_columns,
    place_weights,
    shifted_interpolation,
)
from models.spatial import coordinates


def test_enlarging_is_linear_between_the_centres_of_pixels():
    row = torch.tensor([[[[0.0, 4.0]]]])
    assert enlarged(row, (1, 8)).flatten().tolist() == [0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4]


def test_twice_as_many_values_by_hand():
    """[0, 4] enlarged to four is [0, 1, 3, 4]; shifted down and up with a zero at the border."""
    blocks = shifted_interpolation(2, 4) @ torch.block_diag(*[torch.tensor([[0.0], [4.0]], dtype=torch.float64)] * 3)
    assert blocks.T.tolist() == [[0, 0, 1, 3], [0, 1, 3, 4], [1, 3, 4, 0]]


@settings(deadline=None, max_examples=30)
@given(
    small=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    factor=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 2**31),
)
def test_outputs_and_gradients_equal_the_direct_form_at_the_borders_too(small, factor, seed):
    generator = torch.Generator().manual_seed(seed)
    size = (small[0] * factor[0], small[1] * factor[1])
    maps = torch.randn(2, 3, *small, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    direct = functional.conv2d(enlarged(maps, size), weight, padding=1)
    ours = convolve_enlarged(maps, weight, size)
    torch.testing.assert_close(ours, direct, rtol=1e-12, atol=1e-12)
    pull = torch.randn(direct.shape, dtype=torch.float64, generator=generator)
    expected = torch.autograd.grad(direct, (maps, weight), pull)
    for found, wanted in zip(torch.autograd.grad(ours, (maps, weight), pull), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=30)
@given(
    small=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    factor=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 2**31),
)
def test_words_coordinates_and_bias_are_convolved_as_if_they_were_there(small, factor, seed):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)

    height, width = small[0] * factor[0], small[1] * factor[1]
    words, weight, bias = normal(2, 3, *small), normal(4, 11, 3, 3), normal(4)
    where = coordinates(height, width, dtype=torch.float64).expand(2, -1, -1, -1)
    maps = torch.cat([enlarged(words, (height, width)), where], dim=1)
    direct = functional.conv2d(maps, weight, bias, padding=1)

    of_words = weight[:, :3].permute(1, 2, 3, 0).reshape(3, -1)
    of_places = place_weights(weight[:, 3:], bias, (height, width))
    columns = enlarged_columns(words.permute(0, 2, 3, 1), of_words, of_places, width)
    rows = described_rows(small[0], height, torch.float64, torch.device("cpu"))
    ours = (rows @ columns).view(2, height, width, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours, direct, rtol=0, atol=1e-12)
    pull = torch.randn(direct.shape, dtype=torch.float64, generator=generator)
    expected = torch.autograd.grad(direct, (words, weight, bias), pull)
    for found, wanted in zip(torch.autograd.grad(ours, (words, weight, bias), pull), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)


def test_what_is_kept_in_inference_serves_training():
    shifted_interpolation.cache_clear()
    with torch.inference_mode():
        convolve_enlarged(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3), (4, 4))
    maps = torch.ones(1, 1, 2, 2, requires_grad=True)
    convolve_enlarged(maps, torch.ones(1, 1, 3, 3), (4, 4)).sum().backward()
    assert maps.grad is not None


@pytest.mark.parametrize("size", [(2, 2), (8, 8)])
def test_float32_stays_near_float64(size):
    generator = torch.Generator().manual_seed(0)
    maps, weight = torch.randn(1, 5, 2, 2, generator=generator), torch.randn(3, 5, 3, 3, generator=generator)
    exact = convolve_enlarged(maps.double(), weight.double(), size)
    torch.testing.assert_close(convolve_enlarged(maps, weight, size).double(), exact, rtol=1e-5, atol=1e-5)
