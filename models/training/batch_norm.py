"""Batch norm whose statistics are computed over the clips of all processes.

`torch.nn.SyncBatchNorm` does not support CPU tensors. Here the sums over a batch are computed by a differentiable
all-reduce, and autograd derives the backward pass from it.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from data.wording import counted
from models.training.distributed import world_size


class TooFewValues(ValueError):
    """Error raised if a batch has too few values to estimate a variance."""


class AllReduceSum(torch.autograd.Function):
    """A differentiable all-reduce: the sum of a tensor over all processes, and in the backward pass of its gradient."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        """Return the sum over all processes, which is the same on each of them."""
        total = tensor.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Return the gradient of the sum of the losses of all processes."""
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


class ProcessGroupBatchNorm(_BatchNorm):
    """A batch norm with PyTorch's state dict, whose batch statistics in training are those of all processes together.

    Processes may hold different numbers of maps. With `counts` False this process has no share of the batch: its maps
    are normalised, but do not contribute to the statistics. Statistics are float32 for maps of lower precision. In
    evaluation mode and in a single process the layer is PyTorch's batch norm.
    """

    counts: bool = True

    def forward(self, input: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        """Return the normalised maps. Raises TooFewValues."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        maps = input.to(torch.promote_types(input.dtype, torch.float32))
        share = (maps.numel() // maps.shape[1]) * int(self.counts)
        axes, spread = (0, *range(2, maps.ndim)), (-1, *(1 for _ in maps.shape[2:]))
        sums = AllReduceSum.apply(torch.cat([maps.sum(axes) * int(self.counts), maps.new_tensor([float(share)])]))
        values = round(sums[-1].item())
        if values < 2:
            raise TooFewValues(
                f"Batch norm over {counted(values, 'value')} a channel, expected 2 or more. Enlarge the batch."
            )
        mean = sums[:-1] / values
        centred = maps - mean.reshape(spread)
        variance = AllReduceSum.apply(centred.square().sum(axes) * int(self.counts)) / values
        self.remember(mean.detach(), variance.detach() * (values / (values - 1)))
        scale = torch.rsqrt(variance + self.eps) * self.weight
        normalised: Tensor = centred * scale.reshape(spread) + self.bias.reshape(spread)
        return normalised.to(input.dtype)

    @torch.no_grad()
    def remember(self, mean: Float[Tensor, " c"], variance: Float[Tensor, " c"]) -> None:
        """Update the running statistics with the mean and the unbiased variance of a batch, as PyTorch does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


class GlobalBatchNorm2d(ProcessGroupBatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` with statistics over all processes."""


class GlobalBatchNorm3d(ProcessGroupBatchNorm, nn.BatchNorm3d):
    """`nn.BatchNorm3d` with statistics over all processes."""


def convert(module: nn.Module) -> None:
    """Replace every batch norm inside the module by one over all processes, which keeps the same tensors."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d) and not isinstance(child, ProcessGroupBatchNorm):
            setattr(module, name, global_norm(child))
        else:
            convert(child)


def global_norm(norm: nn.BatchNorm2d | nn.BatchNorm3d) -> ProcessGroupBatchNorm:
    """Return a batch norm over all processes that shares the tensors and the mode of another batch norm."""
    tracking = norm.track_running_stats
    kind = GlobalBatchNorm3d if isinstance(norm, nn.BatchNorm3d) else GlobalBatchNorm2d
    found = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, tracking)
    found.weight, found.bias = norm.weight, norm.bias
    found.running_mean, found.running_var = norm.running_mean, norm.running_var
    found.num_batches_tracked = norm.num_batches_tracked
    found.train(norm.training)
    return found


def set_counts(module: nn.Module, counts: bool) -> None:
    """Set whether the maps of this process contribute to the batch statistics in the module."""
    for norm in module.modules():
        if isinstance(norm, ProcessGroupBatchNorm):
            norm.counts = counts
