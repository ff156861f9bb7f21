"""The frozen trunk made cheap: batch norm folded into the convolutions, those of 1x1x1 as matrix products.

The values are those of the backbone in evaluation mode but for rounding (float32: about 3e-6 of the largest).
"""

import copy
import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from models.backbones import Backbone
from models.i3d import STEM, Unit
from models.resnet import ResNet


def folded(video: Backbone, dtype: torch.dtype = torch.float32) -> Backbone:
    """Return a copy in a precision for extraction only: nothing of it can be trained."""
    trunk = copy.deepcopy(video).eval().requires_grad_(False)
    if isinstance(trunk, ResNet):
        return folded_resnet(trunk).to(dtype)
    # In float32 the stem's batch norm stays apart, which takes a third off what rounding makes of the features; in
    # bfloat16 that would be one rounding more.
    apart = STEM if dtype == torch.float32 else ""
    for name, unit in list(trunk.named_modules()):
        if isinstance(unit, Unit) and name != apart:
            parent, _, own = name.rpartition(".")
            setattr(trunk.get_submodule(parent), own, FoldedUnit(unit))
    return trunk.to(dtype).to(memory_format=torch.channels_last_3d)


def folded_resnet(resnet: ResNet) -> ResNet:
    """Return the ResNet, its batch norms folded into the convolutions: torchvision defines them in pairs."""
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    found = [(name, module) for name, module in resnet.named_modules() if isinstance(module, kinds)]
    for (before, convolution), (after, norm) in zip(found[::2], found[1::2], strict=True):
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            raise TypeError(f"ResNet: expected a convolution {before} and a batch norm {after}")
        resnet.set_submodule(before, fuse_conv_bn_eval(convolution, norm))
        resnet.set_submodule(after, nn.Identity())
    return resnet.to(memory_format=torch.channels_last)


class FoldedUnit(nn.Module):
    """A convolution with SAME padding and a bias, and ReLU: what `unit` computes in evaluation mode."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        convolution, norm = unit.conv3d, unit.batch3d
        self.padding = unit.padding
        self.pointwise = math.prod((*convolution.kernel_size, *convolution.stride)) == 1
        if norm.running_mean is None or norm.running_var is None:
            raise TypeError("a batch norm without running statistics cannot be folded")
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weight, bias = fuse_conv_bn_weights(convolution.weight, None, *statistics)
        self.conv3d = copy.deepcopy(convolution)
        self.conv3d.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.conv3d.bias = nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, maps: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t2 h2 w2"]:
        """Return the activated maps, not negative."""
        if self.pointwise:
            weight = rearrange(self.conv3d.weight, "o c 1 1 1 -> o c")
            rows = functional.linear(rearrange(maps, "b c t h w -> b t h w c"), weight, self.conv3d.bias)
            return rearrange(rows, "b t h w o -> b o t h w").relu_()
        if self.padding:
            maps = functional.pad(maps, self.padding)
        return self.convolved(maps).relu_()

    def convolved(self, maps: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t2 h2 w2"]:
        """Return the convolution. For one small clip PyTorch would leave oneDNN for a loop that is half as fast."""
        known = maps.dtype == torch.float32 or (
            maps.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
        if maps.device.type != "cpu" or not known or not torch.backends.mkldnn.is_available():
            return self.conv3d(maps)
        own = self.conv3d
        settings = (own.padding, own.stride, own.dilation, own.groups)
        return torch.ops.aten.mkldnn_convolution(maps, own.weight, own.bias, *settings)
