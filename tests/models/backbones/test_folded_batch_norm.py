"""Folding batch norm changes no value but by rounding, at any tap, and leaves the network that it copies alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from trunks import uneven_i3d

from models.backbones.folded_batch_norm import FoldedUnit, fold_batch_norm, rounded
from models.backbones.i3d import I3D, Unit
from models.backbones.resnet import ResNet, seed_resnet


def network(eps: float) -> I3D:
    return uneven_i3d("rgb", eps, 1 / 8)


@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 3, 3), (7, 7, 7)])
def test_a_folded_unit_is_convolution_batch_norm_and_relu(kernel: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    unit = Unit(3, 5, kernel, (2, 2, 2) if kernel[0] == 7 else (1, 1, 1), 1e-3).double().eval()
    unit.batch3d.running_mean.normal_()
    unit.batch3d.running_var.uniform_(0.005, 0.02)
    unit.batch3d.bias.data.normal_()
    maps = torch.randn(2, 3, 8, 10, 12, dtype=torch.float64)
    expected = unit(maps)
    assert (expected == 0).any() and (expected > 0).any()
    torch.testing.assert_close(FoldedUnit(unit)(maps), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
@pytest.mark.parametrize("tap", ["conv3d_2c_3x3", "mixed_4e"])
def test_the_folded_trunk_gives_the_trunks_features(eps: float, tap: str) -> None:
    i3d = network(eps)
    clip = torch.rand(2, 3, 8, 48, 48) * 2 - 1
    with torch.inference_mode():
        expected, found = i3d.trunk(clip, tap), fold_batch_norm(i3d).trunk(clip, tap)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_eps_is_folded_too() -> None:
    clip = torch.rand(1, 3, 8, 48, 48) * 2 - 1
    with torch.inference_mode():
        one, other = (fold_batch_norm(network(eps)).trunk(clip) for eps in (1e-5, 1e-3))
    assert (one - other).abs().max() > 1e-2 * one.abs().max()


def test_a_resnet_is_folded_too() -> None:
    resnet = ResNet(18, frames=2)
    seed_resnet(resnet, 0)
    clip = torch.rand(1, 3, 8, 48, 48) * 2 - 1
    trunk = fold_batch_norm(resnet)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())
    with torch.inference_mode():
        expected, found = resnet.eval().trunk(clip), trunk.trunk(clip)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert any(isinstance(module, nn.BatchNorm2d) for module in resnet.modules())


def test_in_bfloat16_the_cubes_alone_are_computed_and_the_features_stay_near() -> None:
    i3d = network(1e-5)
    trunk = fold_batch_norm(i3d, torch.bfloat16)
    units = {name: unit.conv3d for name, unit in trunk.named_modules() if isinstance(unit, FoldedUnit)}
    for unit in units.values():
        cube = unit.kernel_size == (3, 3, 3)
        assert (unit.weight.dtype, unit.bias.dtype) == (torch.bfloat16 if cube else torch.float32, torch.float32)
    clip = torch.rand(2, 3, 8, 48, 48) * 2 - 1
    with torch.inference_mode():
        expected, found = i3d.trunk(clip), trunk.trunk(clip)
    assert 1e-4 < (found - expected).abs().max() / expected.abs().max() <= 3e-2
    assert functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.999


def test_rounded_weights_keep_their_sums() -> None:
    weight = torch.randn(5, 7, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    found = rounded(weight, torch.bfloat16)
    assert found.dtype == torch.bfloat16
    assert (found.float() - weight).abs().max() <= 2**-7 * weight.abs().max()
    of_channels = (weight.flatten(1).cumsum(1), found.float().flatten(1).cumsum(1))
    assert (of_channels[0] - of_channels[1]).abs().max() <= 2**-8 * weight.abs().max()


@pytest.mark.parametrize("rough", [torch.bfloat16, torch.float16])
def test_a_unit_in_lower_precision_adds_its_bias_in_float32(rough: torch.dtype) -> None:
    unit = Unit(1, 1, (3, 3, 3), (1, 1, 1), 1e-3).eval()
    unit.conv3d.weight.data.zero_()[0, 0, 1, 1, 1] = -1
    unit.batch3d.weight.data.fill_(1.001**0.5)
    unit.batch3d.bias.data.fill_(1 + 2**-12)  # 1 in either precision
    found = FoldedUnit(unit, rough)(torch.ones(1, 1, 4, 5, 6)).float()
    torch.testing.assert_close(found, torch.full_like(found, 2**-12), rtol=1e-2, atol=0)


def test_the_network_that_is_folded_stays_as_it_is() -> None:
    i3d = network(1e-5)
    before = {name: value.clone() for name, value in i3d.state_dict().items()}
    trunk = fold_batch_norm(i3d)
    norms = [name for name, module in trunk.named_modules() if isinstance(module, nn.BatchNorm3d)]
    assert norms == ["conv3d_1a_7x7.batch3d"]
    assert all(torch.equal(value, before[name]) for name, value in i3d.state_dict().items())
    assert sum(isinstance(module, nn.BatchNorm3d) for module in i3d.modules()) == 57
