"""The frozen trunk made cheap: batch norm folded into the convolutions before it, 1x1x1 convolutions as matrix products.

The values are those of I3D in evaluation mode but for rounding (float32: about 3e-6 of the largest).
"""

import copy
import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from models.i3d import I3D, Unit


def folded(i3d: I3D) -> I3D:
    """Return a copy for extraction only: its units are `FoldedUnit`s and it has no batch norm left to train."""
    trunk = copy.deepcopy(i3d).eval()
    for name, unit in list(trunk.named_modules()):
        if isinstance(unit, Unit):
            parent, _, own = name.rpartition(".")
            setattr(trunk.get_submodule(parent), own, FoldedUnit(unit))
    return trunk.to(memory_format=torch.channels_last_3d)


class FoldedUnit(nn.Module):
    """A convolution with SAME padding and a bias, and ReLU: what `unit` computes in evaluation mode."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        convolution, norm = unit.conv3d, unit.batch3d
        self.padding = unit.padding
        self.pointwise = math.prod((*convolution.kernel_size, *convolution.stride)) == 1
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        self.conv3d = copy.deepcopy(convolution)
        self.conv3d.weight = nn.Parameter(convolution.weight * rearrange(scale, "o -> o 1 1 1 1"), requires_grad=False)
        self.conv3d.bias = nn.Parameter(norm.bias - norm.running_mean * scale, requires_grad=False)

    def forward(self, maps: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t2 h2 w2"]:
        """Return the activated maps, not negative."""
        if self.pointwise:
            weight = rearrange(self.conv3d.weight, "o c 1 1 1 -> o c")
            rows = functional.linear(rearrange(maps, "b c t h w -> b t h w c"), weight, self.conv3d.bias)
            return rearrange(rows, "b t h w o -> b o t h w").relu_()
        if self.padding:
            maps = functional.pad(maps, self.padding)
        return self.conv3d(maps).relu_()
