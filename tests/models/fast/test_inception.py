"""An inception block at speed gives what I3D's own gives: values, gradients and running statistics."""

import copy

import pytest
import torch
from einops import rearrange
from torch import nn

from models.backbones.i3d import Mixed
from models.fast.inception import mixed

BRANCHES = (4, 3, 5, 2, 3, 2)


def block() -> Mixed:
    module = Mixed(6, BRANCHES, eps=1e-3)
    generator = torch.Generator().manual_seed(0)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    for convolution in module.modules():
        if isinstance(convolution, nn.Conv3d):
            convolution.weight.data.sub_(1)
    return module


def maps(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).relu()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(4, 3, 2), (2, 5, 4), (1, 1, 1)])
def test_outputs_gradients_and_statistics_are_the_blocks(training, size):
    plain = block().double().train(training)
    quick = copy.deepcopy(plain)
    features = maps(2, 6, *size).double().requires_grad_()
    expected, found = plain(features), rearrange(mixed(quick, features), "b t h w g -> b g t h w")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    pull = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wanted = torch.autograd.grad(expected, (features, *plain.parameters()), pull)
    for ours, gradient in zip(torch.autograd.grad(found, (features, *quick.parameters()), pull), wanted, strict=True):
        torch.testing.assert_close(ours, gradient, rtol=1e-9, atol=1e-9)
    for name, statistic in plain.state_dict().items():
        torch.testing.assert_close(quick.state_dict()[name], statistic, rtol=1e-9, atol=1e-9, msg=name)


def test_where_all_inputs_are_zero_no_gradient_passes_the_relu():
    """A new block, whose batch norms shift nothing: a sum of zeros is at the ReLU's corner, rounding is beyond it."""
    torch.manual_seed(0)
    plain = Mixed(6, BRANCHES, eps=1e-3).double().eval()
    quick = copy.deepcopy(plain)
    features = (maps(2, 6, 4, 9, 9) - 1.5).relu().double()
    assert (features.amax(1) == 0).double().mean() > 0.5
    expected, found = plain(features), rearrange(mixed(quick, features), "b t h w g -> b g t h w")
    assert torch.equal(found == 0, expected == 0)
    wanted = torch.autograd.grad(expected.sum(), list(plain.parameters()))
    for ours, gradient in zip(torch.autograd.grad(found.sum(), list(quick.parameters())), wanted, strict=True):
        torch.testing.assert_close(ours, gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.timeout(60)
def test_in_bfloat16_it_learns_and_does_not_hang():
    """The backward pass of a bfloat16 1x1x1 `Conv3d` hangs on a CPU with two threads (torch 2.14.1)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        exact, rough = block().train(), block().train()
        features = maps(1, 6, 4, 8, 8)
        outputs = {"exact": mixed(exact, features), "rough": mixed(rough, features.bfloat16())}
        for output in outputs.values():
            output.float().square().mean().backward()
    finally:
        torch.set_num_threads(threads)
    assert outputs["rough"].dtype == torch.bfloat16
    assert (outputs["rough"] - outputs["exact"]).abs().max() < 0.05 * outputs["exact"].abs().max()
    for ours, theirs in zip(rough.parameters(), exact.parameters(), strict=True):
        assert ours.dtype == torch.float32 and ours.grad is not None and theirs.grad is not None
        assert (ours.grad - theirs.grad).norm() < 0.1 * theirs.grad.norm() + 1e-3
