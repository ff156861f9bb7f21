"""The frozen trunk made cheap: batch norm folded into the convolutions, channels last, oneDNN called by its name.

The values are those of the backbone in evaluation mode but for rounding (float32: about 3e-6 of the largest).

In bfloat16 only I3D's 3x3x3 convolutions are computed, two thirds of its arithmetic: what is rounded early grows on the
way. With seeded weights, real clips and 512 px the features lie 1.5 % of the largest from float32's; with everything in
bfloat16 they lay 3.5 % away, with all but the stem 3.1 %.
"""

import copy

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from models.backbones.backbone import Backbone
from models.backbones.i3d import STEM, Unit
from models.backbones.resnet import ResNet

CUBE = (3, 3, 3)


def fold_batch_norm(video: Backbone, dtype: torch.dtype = torch.float32) -> Backbone:
    """Return a copy for extraction only: nothing of it can be trained. It takes images in its first weight's dtype."""
    trunk = copy.deepcopy(video).eval().requires_grad_(False)
    if isinstance(trunk, ResNet):
        return fold_resnet(trunk).to(dtype)
    # In float32 the stem's batch norm stays apart, which takes a third off what rounding makes of the features.
    apart = STEM if dtype != torch.bfloat16 else ""
    for name, unit in list(trunk.named_modules()):
        if isinstance(unit, Unit) and name != apart:
            parent, _, own = name.rpartition(".")
            rough = dtype if dtype == torch.bfloat16 and unit.conv3d.kernel_size == CUBE else None
            setattr(trunk.get_submodule(parent), own, FoldedUnit(unit, rough))
    if dtype != torch.bfloat16:
        trunk.to(dtype)
    return trunk.to(memory_format=torch.channels_last_3d)


def fold_resnet(resnet: ResNet) -> ResNet:
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
    """A convolution with SAME padding and a bias, and ReLU: what `unit` computes in evaluation mode.

    In its own precision, or with weights and maps rounded to `rough` and sums and bias in float32.
    """

    def __init__(self, unit: Unit, rough: torch.dtype | None = None) -> None:
        super().__init__()
        convolution, norm = unit.conv3d, unit.batch3d
        self.padding = unit.padding
        if norm.running_mean is None or norm.running_var is None:
            raise TypeError("a batch norm without running statistics cannot be folded")
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weight, bias = fuse_conv_bn_weights(convolution.weight, None, *statistics)
        self.conv3d = copy.deepcopy(convolution)
        kept = weight.detach() if rough is None else rounded(weight.detach(), rough)
        self.conv3d.weight = nn.Parameter(kept, requires_grad=False)
        self.conv3d.bias = nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, maps: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t2 h2 w2"]:
        """Return the activated maps, not negative."""
        maps = maps.to(self.conv3d.weight.dtype)
        if self.padding:
            maps = functional.pad(maps, self.padding)
        return self.convolved(maps).relu_()

    def convolved(self, maps: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t2 h2 w2"]:
        """Return the convolution. For one small clip PyTorch would leave oneDNN for a loop that is half as fast."""
        own = self.conv3d
        known = maps.dtype == torch.float32 or (
            maps.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
        settings = (own.padding, own.stride, own.dilation, own.groups)
        if maps.device.type == "cpu" and known and torch.backends.mkldnn.is_available():
            return torch.ops.aten.mkldnn_convolution(maps, own.weight, own.bias, *settings)
        if own.bias is None or own.bias.dtype == maps.dtype:
            return own(maps)
        padding, stride, dilation, groups = settings
        sums = functional.conv3d(maps, own.weight, None, stride, padding, dilation, groups)
        return sums.to(own.bias.dtype) + rearrange(own.bias, "o -> o 1 1 1")


def rounded(weight: Float[Tensor, "o c t h w"], dtype: torch.dtype) -> Float[Tensor, "o c t h w"]:
    """Return weights in a lower precision, what rounding takes from each being given to the next of its output channel.

    So their sums over neighbouring inputs, which are alike, stay nearly what they were (error feedback).
    """
    exact = rearrange(weight, "o c t h w -> (c t h w) o")
    result = torch.empty_like(exact, dtype=dtype)
    left = torch.zeros_like(exact[0])
    for place, values in enumerate(exact):
        wanted = values + left
        result[place] = wanted.to(dtype)
        left = wanted - result[place]
    _, channels, *sizes = weight.shape
    return rearrange(result, "(c t h w) o -> o c t h w", c=channels, t=sizes[0], h=sizes[1], w=sizes[2]).contiguous()
