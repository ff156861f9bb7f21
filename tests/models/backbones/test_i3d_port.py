"""I3D computes what the public port computes: the same file of weights gives the same maps at every tap."""

import pytest
import torch
from i3d_port import Port
from torch import Tensor, nn

from models.backbones.i3d import I3D, UnknownTap

TAPS = ("conv3d_2c_3x3", "mixed_4e", "mixed_5c")
IMAGE = {"rgb": 3, "flow": 2}
WIDTH = 1 / 8


def pair(modality: str, eps: float, width: float = WIDTH) -> tuple[I3D, Port]:
    """Ours and the port with one state dict, in float64; variances near 0.01, where eps shows."""
    generator = torch.Generator().manual_seed(5)
    port = Port(IMAGE[modality], eps, width).double().eval()
    for module in port.modules():
        if isinstance(module, nn.Conv3d):
            deviation = (2 / module.weight[0].numel()) ** 0.5
            module.weight.data = deviation * torch.randn(module.weight.shape, generator=generator).double()
        elif isinstance(module, nn.BatchNorm3d):
            draws = torch.randn(4, module.num_features, generator=generator).double()
            module.running_mean.copy_(0.05 * draws[0])
            module.running_var.copy_(0.01 * torch.exp(0.3 * draws[1]))
            module.weight.data = 0.1 * torch.exp(0.2 * draws[2])
            module.bias.data = 0.3 * draws[3]
    i3d = I3D(modality, eps, width).double().eval()
    i3d.load_state_dict(port.state_dict())
    return i3d, port


def clip(modality: str, *size: int) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.rand(1, IMAGE[modality], *size, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("modality", ["rgb", "flow"])
@pytest.mark.parametrize("eps", [1e-5, 1e-3])
@pytest.mark.parametrize("size", [(16, 64, 64), (9, 45, 37), (5, 33, 50)], ids=str)
def test_the_ports_weights_give_the_ports_maps_at_every_tap(modality: str, eps: float, size: tuple[int, ...]) -> None:
    i3d, port = pair(modality, eps)
    images = clip(modality, *size)
    with torch.no_grad():
        expected = port(images, "mixed_5c")
        found = i3d.taps(images, tuple(expected))
        alone = {tap: i3d.trunk(images, tap) for tap in TAPS}
    assert list(found) == list(expected) and len(found) == 12
    for tap, maps in expected.items():
        assert 0 < maps.max() < 1e3 and (maps == 0).any(), f"{tap}: the maps say nothing"
        torch.testing.assert_close(found[tap], maps, rtol=1e-9, atol=1e-9, msg=lambda text, tap=tap: f"{tap}: {text}")
    for tap, maps in alone.items():
        torch.testing.assert_close(maps, expected[tap], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(16, 64, 64), (7, 41, 35)], ids=str)
def test_where_gradients_are_wanted_maps_and_gradients_are_the_ports(size: tuple[int, ...]) -> None:
    """Max pools then go another way than without."""
    i3d, port = pair("rgb", 1e-3)
    ours, theirs = (clip("rgb", *size).requires_grad_() for _ in range(2))
    found, expected = i3d.trunk(ours), port(theirs, "mixed_4e")["mixed_4e"]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    pull = torch.randn(expected.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((found * pull).sum(), ours)
    (wanted,) = torch.autograd.grad((expected * pull).sum(), theirs)
    assert wanted.abs().max() > 1e-6
    torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-9 * wanted.abs().max().item())


def test_at_full_width_the_state_dicts_have_the_same_names_and_shapes() -> None:
    with torch.device("meta"):
        ours, port = I3D("flow", 1e-5).state_dict(), Port(2, 1e-5).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in port.items()}


def test_the_eps_of_both_variants_shows() -> None:
    images = clip("rgb", 8, 48, 48)
    with torch.no_grad():
        one, other = (pair("rgb", eps)[0].trunk(images) for eps in (1e-5, 1e-3))
    assert (one - other).abs().max() > 1e-2 * one.abs().max()


def test_several_taps_come_from_one_pass_and_nothing_after_the_last_is_computed() -> None:
    i3d, _ = pair("rgb", 1e-3)
    runs: list[str] = []
    for name, module in i3d.named_children():
        module.register_forward_hook(lambda *_, name=name: runs.append(name))
    with torch.no_grad():
        found = i3d.taps(clip("rgb", 8, 32, 32), ("mixed_4b", "conv3d_2c_3x3"))
    assert sorted(found) == ["conv3d_2c_3x3", "mixed_4b"]
    assert len(runs) == len(set(runs)) and runs[-1] == "mixed_4b" and "mixed_4c" not in runs


@pytest.mark.parametrize("names", [("mixed_4e", "mixed_9z"), ("max_pool_4a",), ("conv3d_0c_1x1",), ()], ids=str)
def test_taps_that_i3d_does_not_have_are_refused_among_others_too(names: tuple[str, ...]) -> None:
    i3d = I3D("rgb", 1e-3, 1 / 16)
    with pytest.raises(UnknownTap, match="mixed_5c"):
        i3d.taps(torch.zeros(1, 3, 8, 32, 32), names)
