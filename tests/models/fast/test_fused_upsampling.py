"""One composed convolution, framed, equals the three layers that it stands for."""

import pytest
import torch
from einops import rearrange
from torch import Tensor

from models.backbones.initialisation import initialise_default
from models.fast.convolution import convolve_rows, prepared_weight
from models.fast.fused_upsampling import EDGE, Chain, Framed, frame, fused_bias, fused_weight
from models.layers import STEP, Upsampler


def chain(inputs: int = 3, inner: int = 4, outputs: int = 2) -> tuple[Upsampler, Tensor, Chain]:
    upsampler = Upsampler(inputs, inner).double()
    generator = torch.Generator().manual_seed(0)
    initialise_default(upsampler, generator)
    first = torch.randn(outputs, inner, 3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    return upsampler, first, Chain.of(upsampler, first)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer_by_layer(maps: Tensor, upsampler: Upsampler, first: Tensor) -> Tensor:
    finer = upsampler(rearrange(maps, "b h w c -> b c h w"))
    return rearrange(torch.nn.functional.conv2d(finer, first, padding=1), "b o h w -> b h w o")


def unframed(maps: Tensor, weights: Chain) -> Tensor:
    """What the composed convolution gives, its frame wrong."""
    outputs = torch.nn.functional.conv2d(rearrange(maps, "b h w c -> b c h w"), fused_weight(weights), padding=1)
    return rearrange(outputs, "b (r s o) h w -> b (h r) (w s) o", r=STEP, s=STEP) + fused_bias(weights)


def framed(maps: Tensor, weights: Chain) -> Tensor:
    bias = fused_bias(weights)
    sides = frame(maps, weights, bias)
    tiles = convolve_rows(maps, prepared_weight(fused_weight(weights)), 0, maps.shape[1])
    rows = Framed.apply(tiles, sides.left, sides.right, sides.top, sides.bottom)
    return rearrange(rows, "b h (w o) -> b h w o", o=len(bias)) + bias


def test_taps_of_one_add_up_by_hand():
    """All taps 1: eight ones a way, summed over three neighbours twice, which makes them twelve."""
    ones = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    weights = Chain(torch.ones(1, 1, 8, 8, dtype=torch.float64), torch.zeros(1), ones, torch.zeros(1), ones)
    along = [1, 3, 6, 8, 9, 9, 9, 9, 8, 6, 3, 1]
    twelve = torch.outer(torch.tensor(along), torch.tensor(along)).double()
    found = rearrange(fused_weight(weights), "(r s) 1 i j -> i r j s", r=STEP).flip(0, 2).reshape(12, 12)
    assert torch.equal(found, twelve)


def test_inside_the_frame_the_composition_is_exact_and_on_it_it_is_not():
    upsampler, first, weights = chain()
    maps = normal(2, 4, 8, 3)
    difference = (unframed(maps, weights) - layer_by_layer(maps, upsampler, first)).abs().amax((0, 3))
    inside = difference[EDGE:-EDGE, EDGE:-EDGE]
    assert inside.max() < 1e-12
    for side in (difference[1], difference[-2], difference[:, 1], difference[:, -2]):
        assert side.min() > 1e-6, "the frame is two pixels wide"


@pytest.mark.parametrize("size", [(4, 4), (4, 12), (8, 4)])
def test_outputs_and_gradients_equal_those_of_the_layers(size):
    upsampler, first, weights = chain()
    maps = normal(2, *size, 3).requires_grad_()
    ours, expected = framed(maps, weights), layer_by_layer(maps, upsampler, first)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    parameters = (maps, first, *upsampler.parameters())
    pull = normal(*expected.shape, seed=2)
    wanted = torch.autograd.grad(expected, parameters, pull)
    for found, gradient in zip(torch.autograd.grad(ours, parameters, pull), wanted, strict=True):
        torch.testing.assert_close(found, gradient, rtol=0, atol=1e-10)


def test_a_frames_gradient_goes_to_its_sides():
    tiles, left, right, top, bottom = (
        normal(*shape).requires_grad_()
        for shape in ((4, 4, 1, 1, 2, 16 * 3), (1, 16, 2, 3), (1, 16, 2, 3), (1, 2, 32, 3), (1, 2, 32, 3))
    )
    for ends in ((top, bottom), (top, None), (None, bottom), (None, None)):
        assert torch.autograd.gradcheck(Framed.apply, (tiles, left, right, *ends), fast_mode=True)
