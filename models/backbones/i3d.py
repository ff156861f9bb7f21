"""I3D (Carreira and Zisserman, CVPR 2017), with the parameter names of the PyTorch port hassony2/kinetics_i3d_pytorch.

The *trunk* (all layers up to a tap; frozen, with cached outputs) is followed by the *head* (`mixed_4f`, trained with
ACGA). Channel counts below are those of the paper; `width` multiplies each of them.
"""

import math
from collections.abc import Collection

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

Triple = tuple[int, int, int]

IMAGE_CHANNELS: dict[str, int] = {"rgb": 3, "flow": 2}
STEM_CHANNELS = 64
KINETICS_CLASSES = 400

# Output channels of the convolutions of each inception block: b0, b1a, b1b, b2a, b2b, b3 (see `Mixed`).
BRANCHES = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}

# The layers of the forward pass, in order.
LAYERS = (
    "conv3d_1a_7x7", "max_pool_2a", "conv3d_2b_1x1", "conv3d_2c_3x3", "max_pool_3a", "mixed_3b", "mixed_3c",
    "max_pool_4a", "mixed_4b", "mixed_4c", "mixed_4d", "mixed_4e", "mixed_4f", "max_pool_5a", "mixed_5b", "mixed_5c",
)  # fmt: skip
STEM = "conv3d_1a_7x7"
TAP = "mixed_4e"
HEAD = "mixed_4f"
TIME_STRIDE = 4  # from the input to the tap, in frames
SPACE_STRIDE = 16  # from the input to the tap, in pixels


class UnknownModality(ValueError):
    """Error raised if the modality of an I3D is neither "rgb" nor "flow"."""


class UnknownTap(ValueError):
    """Error raised if a backbone has no layer of the given name, or if no layer is named."""


class I3D(nn.Module):
    """I3D for one modality, "rgb" or "flow".

    `eps` is that of the batch norms: 1e-5 in the authors' copy of the port, 1e-3 in the TensorFlow original.
    Parameters are drawn from PyTorch's global generator until they are seeded or loaded. Raises UnknownModality.
    """

    tap = TAP
    head_name = HEAD

    def __init__(self, modality: str, eps: float, width: float = 1.0) -> None:
        super().__init__()
        if modality not in IMAGE_CHANNELS:
            raise UnknownModality(f"I3D modality {modality!r}: expected one of {', '.join(IMAGE_CHANNELS)}.")
        self.modality = modality
        self.eps = eps
        self.width = width
        stem, wide = scaled(STEM_CHANNELS, width), scaled(3 * STEM_CHANNELS, width)
        self.conv3d_1a_7x7 = Unit(IMAGE_CHANNELS[modality], stem, (7, 7, 7), (2, 2, 2), eps)
        self.max_pool_2a = ZeroPaddedMaxPool((1, 3, 3), (1, 2, 2))
        self.conv3d_2b_1x1 = Unit(stem, stem, (1, 1, 1), (1, 1, 1), eps)
        self.conv3d_2c_3x3 = Unit(stem, wide, (3, 3, 3), (1, 1, 1), eps)
        self.max_pool_3a = ZeroPaddedMaxPool((1, 3, 3), (1, 2, 2))
        self.max_pool_4a = ZeroPaddedMaxPool((3, 3, 3), (2, 2, 2))
        self.max_pool_5a = ZeroPaddedMaxPool((2, 2, 2), (2, 2, 2))
        self.channels = {"conv3d_1a_7x7": stem, "conv3d_2b_1x1": stem, "conv3d_2c_3x3": wide}
        inputs = wide
        for name, branches in BRANCHES.items():
            block = Mixed(inputs, tuple(scaled(outputs, width) for outputs in branches), eps)
            self.add_module(name, block)
            inputs = self.channels[name] = block.outputs
        self.conv3d_0c_1x1 = Classifier(inputs, KINETICS_CLASSES)

    def trunk(self, clip: Float[Tensor, "b image t h w"], tap: str = TAP) -> Float[Tensor, "b c t2 h2 w2"]:
        """Return the output of the layer `tap`: for `mixed_4e`, 528 * width channels at t/4, h/16, w/16.

        The values of the clip lie in [-1, 1]; its channels are RGB or the two flow components. Raises UnknownTap.
        """
        return self.taps(clip, (tap,))[tap]

    def taps(self, clip: Float[Tensor, "b image t h w"], names: Collection[str]) -> dict[str, Tensor]:
        """Return the outputs of several layers, by name, from one forward pass. Raises UnknownTap."""
        unknown = [name for name in names if name not in self.channels]
        if unknown or not names:
            raise UnknownTap(f"I3D has no layer {unknown} to tap: expected one or more of {', '.join(self.channels)}.")
        outputs = {}
        for name in LAYERS[: max(LAYERS.index(name) for name in names) + 1]:
            clip = self.get_submodule(name)(clip)
            if name in names:
                outputs[name] = clip
        return outputs

    def features_shape(self, length: int, size: int) -> tuple[int, int, int, int]:
        """Return the shape (c, t, h, w) of the trunk's output for `length` frames of `size` x `size` pixels."""
        return (self.channels[TAP], length // TIME_STRIDE, size // SPACE_STRIDE, size // SPACE_STRIDE)

    def head(self, features: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b v t h w"]:
        """Return the output of `mixed_4f` for the trunk's output at `mixed_4e`: 832 * width channels, after ReLU."""
        maps: Tensor = self.get_submodule(HEAD)(features)
        return maps


def scaled(channels: int, width: float) -> int:
    """Return the number of channels multiplied by `width` and rounded, at least 1."""
    return max(1, round(channels * width))


def to_unit_range(frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b 3 t h w"]:
    """Return the frames as float32 in [-1, 1], channels first, as the RGB trunk expects them (black becomes -1)."""
    return rearrange(frames, "b t h w c -> b c t h w").float() * (2 / 255) - 1


class Mixed(nn.Module):
    """An inception block: four parallel branches, concatenated over channels.

    Branch 0 is a 1x1x1 convolution, branches 1 and 2 are a 1x1x1 and a 3x3x3 convolution, and branch 3 is a max pool
    and a 1x1x1 convolution. `branches` are the output channels, in the order of `BRANCHES`.
    """

    def __init__(self, inputs: int, branches: tuple[int, ...], eps: float) -> None:
        super().__init__()
        direct, reduced_1, out_1, reduced_2, out_2, pooled = branches
        point, cube, one = (1, 1, 1), (3, 3, 3), (1, 1, 1)
        self.outputs = direct + out_1 + out_2 + pooled
        self.branch_0 = Unit(inputs, direct, point, one, eps)
        self.branch_1 = nn.Sequential(Unit(inputs, reduced_1, point, one, eps), Unit(reduced_1, out_1, cube, one, eps))
        self.branch_2 = nn.Sequential(Unit(inputs, reduced_2, point, one, eps), Unit(reduced_2, out_2, cube, one, eps))
        self.branch_3 = nn.Sequential(ZeroPaddedMaxPool(cube, one), Unit(inputs, pooled, point, one, eps))

    def forward(self, maps: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        """Return the four branches' maps, concatenated over channels."""
        return torch.cat([self.branch_0(maps), self.branch_1(maps), self.branch_2(maps), self.branch_3(maps)], dim=1)


class Unit(nn.Module):
    """A convolution with TensorFlow's SAME padding, followed by batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple, stride: Triple, eps: float) -> None:
        super().__init__()
        padding = same_padding(kernel, stride)
        low, high = padding[::2], padding[1::2]
        # Padding that is equal on both sides is done by the convolution, which saves a copy.
        self.padding = () if low == high else padding
        within: Triple = (low[2], low[1], low[0]) if low == high else (0, 0, 0)
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, padding=within, bias=False)
        self.batch3d = nn.BatchNorm3d(outputs, eps=eps)

    def forward(self, maps: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t2 h2 w2"]:
        """Return the maps after ReLU."""
        if self.padding:
            maps = functional.pad(maps, self.padding)
        return functional.relu(self.batch3d(self.conv3d(maps)))


class Classifier(nn.Module):
    """The Kinetics classifier; ACGA never runs it, but its weights are part of checkpoints."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, classes, 1)


class ZeroPaddedMaxPool(nn.Module):
    """A 3-D max pool with SAME padding by zeros and with `ceil_mode`, as in the port.

    Where no gradient is needed it pools over time first and then over space: the same values, twice as fast on CPUs.
    """

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.padding = same_padding(kernel, stride)

    def forward(self, maps: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t2 h2 w2"]:
        """Return the maximum of each window."""
        if torch.is_grad_enabled() and maps.requires_grad:
            return functional.max_pool3d(functional.pad(maps, self.padding), self.kernel, self.stride, ceil_mode=True)
        frames = rearrange(maps, "b c t h w -> b t h w c")
        frames = pooled_over_time(frames, self.kernel[0], self.stride[0], self.padding[4:])
        pictures = functional.pad(rearrange(frames, "b t h w c -> (b t) c h w"), self.padding[:4])
        pictures = functional.max_pool2d(pictures, self.kernel[1:], self.stride[1:], ceil_mode=True)
        return rearrange(pictures, "(b t) c h w -> b c t h w", t=frames.shape[1])


def pooled_over_time(
    frames: Float[Tensor, "b t h w c"], kernel: int, stride: int, padding: tuple[int, ...]
) -> Float[Tensor, "b t2 h w c"]:
    """Return the maximum of each window of frames, with zero padding before and after the clip."""
    if kernel == 1:
        return frames[:, ::stride]
    padded = functional.pad(frames, (0, 0, 0, 0, 0, 0, *padding))
    count = -(-(padded.shape[1] - kernel) // stride) + 1
    beyond = (count - 1) * stride + kernel - padded.shape[1]
    if beyond:  # the last window is completed with -inf, which is never the maximum
        padded = functional.pad(padded, (0, 0, 0, 0, 0, 0, 0, beyond), value=-math.inf)
    first, *others = (padded[:, start : start + (count - 1) * stride + 1 : stride] for start in range(kernel))
    for other in others:
        first = torch.maximum(first, other)
    return first


def same_padding(kernel: Triple, stride: Triple) -> tuple[int, ...]:
    """Return TensorFlow's SAME padding of max(kernel - stride, 0), with the smaller half at the low end.

    The order is that of `torch.nn.functional.pad`: last axis first, low before high. As in the port the padding ignores
    the size of the map; TensorFlow's own differs where the size is not a multiple of the stride.
    """
    padding: list[int] = []
    for size, step in reversed(list(zip(kernel, stride, strict=True))):
        total = max(size - step, 0)
        padding += [total // 2, total - total // 2]
    return tuple(padding)
