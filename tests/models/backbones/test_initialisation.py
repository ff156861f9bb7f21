import math

import pytest
import torch
from torch import Generator, nn

from models.backbones.i3d import I3D, LAYERS
from models.backbones.initialisation import (
    initialise_averaging,
    initialise_default,
    initialise_kaiming,
    initialise_linear,
    seed_i3d,
    smooth_clips,
)


def seeded(seed: int, width: float = 0.125) -> I3D:
    i3d = I3D("rgb", eps=1e-3, width=width)
    seed_i3d(i3d, seed)
    return i3d


def test_features_have_unit_scale_at_every_layer():
    i3d = seeded(0).eval()
    maps = smooth_clips(3, Generator().manual_seed(99)).float()
    for name in LAYERS:
        maps = i3d.get_submodule(name)(maps)
        assert 0.3 < maps.square().mean().sqrt() < 3, name


def test_weights_are_a_pure_function_of_the_seed():
    before = torch.get_rng_state()
    first, second, other = seeded(5).state_dict(), seeded(5).state_dict(), seeded(6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["mixed_4f.branch_0.conv3d.weight"], other["mixed_4f.branch_0.conv3d.weight"])
    i3d = I3D("rgb", eps=1e-3, width=0.125)
    torch.set_rng_state(before)
    seed_i3d(i3d, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_thread_counts_do_not_show():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = seeded(5).state_dict()
        torch.set_num_threads(2)
        two = seeded(5).state_dict()
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_seeding_leaves_mode_precision_and_momentum_as_they_were():
    i3d = I3D("rgb", eps=1e-3, width=0.0625).eval()
    seed_i3d(i3d, 0)
    assert not i3d.training
    assert all(tensor.dtype == torch.float32 for tensor in i3d.parameters())
    norm = i3d.conv3d_1a_7x7.batch3d
    assert (norm.momentum, norm.num_batches_tracked.item()) == (0.1, 0)


def test_the_default_is_that_of_pytorch():
    module = nn.Sequential(nn.Conv2d(50, 40, 3), nn.ConvTranspose2d(40, 30, 8), nn.Conv1d(30, 20, 3))
    bounds = [1 / math.sqrt(50 * 9), 1 / math.sqrt(30 * 64), 1 / math.sqrt(30 * 3)]
    initialise_default(module, Generator().manual_seed(0))
    for part, bound in zip(module, bounds, strict=True):
        # kaiming uniform with a = sqrt(5) is uniform within 1 / sqrt(fan in)
        assert part.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert part.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert part.bias.abs().max() <= bound


def test_linear_layers_are_the_authors():
    linear = nn.Linear(300, 200)
    initialise_linear(linear, Generator().manual_seed(0))
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not linear.bias.any()


def test_kaiming_keeps_the_scale_of_activations():
    convolution = nn.Conv2d(100, 100, 1)
    initialise_kaiming(convolution, Generator().manual_seed(0))
    maps = torch.randn(1, 100, 20, 20, generator=Generator().manual_seed(1))
    assert convolution(maps).relu().square().mean().item() == pytest.approx(1, rel=0.1)


def test_averaging_returns_the_mean_of_the_channels():
    fusion = nn.Conv2d(3, 1, 3, padding=1)
    initialise_averaging(fusion)
    maps = torch.randn(2, 3, 4, 5, generator=Generator().manual_seed(1))
    torch.testing.assert_close(fusion(maps), maps.mean(1, keepdim=True))
