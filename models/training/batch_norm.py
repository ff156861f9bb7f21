"""Batch norm over the clips of all processes.

`torch.nn.SyncBatchNorm` refuses tensors on a CPU. Here the sums over a batch are all-reduced by a layer that has a
gradient, and autograd does the rest.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.training.distributed import world_size


class TooFewValues(ValueError):
    """A batch whose variance cannot be estimated."""


class AllReduceSum(torch.autograd.Function):
    """The sum of a tensor over all processes; each process's tensor gets the sum of the gradients."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        """Return the sum, the same on every process."""
        total = tensor.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Return the gradient of the sum of all processes' losses."""
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


class ProcessGroupBatchNorm(_BatchNorm):
    """A batch norm with the same state; in training its statistics are those of all processes' maps together.

    Processes may hold different numbers of maps. Where `counts` is False this process's maps are normalised, but count
    for nothing: it has no share of the batch and takes part for the sake of the others. Statistics are float32 for
    maps of less precision. In evaluation, and in a single process, it is PyTorch's.
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
            raise TooFewValues(f"Batch norm over {values} values a channel, expected 2 or more. Enlarge the batch.")
        mean = sums[:-1] / values
        centred = maps - mean.reshape(spread)
        variance = AllReduceSum.apply(centred.square().sum(axes) * int(self.counts)) / values
        self.remember(mean.detach(), variance.detach() * (values / (values - 1)))
        scale = torch.rsqrt(variance + self.eps) * self.weight
        normalised: Tensor = centred * scale.reshape(spread) + self.bias.reshape(spread)
        return normalised.to(input.dtype)

    @torch.no_grad()
    def remember(self, mean: Float[Tensor, " c"], variance: Float[Tensor, " c"]) -> None:
        """Move the running statistics towards a batch's mean and unbiased variance, as PyTorch's does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


class GlobalBatchNorm2d(ProcessGroupBatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over all processes."""


class GlobalBatchNorm3d(ProcessGroupBatchNorm, nn.BatchNorm3d):
    """`nn.BatchNorm3d` over all processes."""


def convert(module: nn.Module) -> None:
    """Replace every batch norm inside the module; parameters and running statistics stay the same tensors."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d) and not isinstance(child, ProcessGroupBatchNorm):
            setattr(module, name, global_norm(child))
        else:
            convert(child)


def global_norm(norm: nn.BatchNorm2d | nn.BatchNorm3d) -> ProcessGroupBatchNorm:
    """Return a norm over all processes around the tensors of another."""
    tracking = norm.track_running_stats
    kind = GlobalBatchNorm3d if isinstance(norm, nn.BatchNorm3d) else GlobalBatchNorm2d
    found = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, tracking)
    found.weight, found.bias = norm.weight, norm.bias
    found.running_mean, found.running_var = norm.running_mean, norm.running_var
    found.num_batches_tracked = norm.num_batches_tracked
    found.train(norm.training)
    return found


def set_counts(module: nn.Module, counts: bool) -> None:
    """Say whether this process's maps count in the statistics of the module's norms."""
    for norm in module.modules():
        if isinstance(norm, ProcessGroupBatchNorm):
            norm.counts = counts
