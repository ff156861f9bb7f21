"""I3D as the port hassony2/kinetics_i3d_pytorch computes it, written out a second time and plainly.

An oracle for `models.backbones.i3d` and the measure of `models.backbones.folded_batch_norm`: batch norm in a layer of
its own, tensors in PyTorch's default memory format, every padding by the port's rule. Parameters have the port's names.
"""

import torch
from torch import nn
from torch.nn import functional

# Output channels of b0, b1a, b1b, b2a, b2b, b3, in the order that a clip passes the blocks.
BLOCKS: dict[str, tuple[int, ...]] = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
POOL_BEFORE = {"3b": ((1, 3, 3), (1, 2, 2)), "4b": ((3, 3, 3), (2, 2, 2)), "5b": ((2, 2, 2), (2, 2, 2))}


def margins(kernel: tuple[int, ...], stride: tuple[int, ...]) -> list[int]:
    """What to pad, in the order of `functional.pad`: width, height, time, each low before high."""
    found = []
    for axis in (2, 1, 0):
        surplus = max(kernel[axis] - stride[axis], 0)
        found += [surplus // 2, surplus - surplus // 2]
    return found


def pooled(maps: torch.Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
    """The max pool of the maps between zeros."""
    return functional.max_pool3d(functional.pad(maps, margins(kernel, stride)), kernel, stride, ceil_mode=True)


class PortUnit(nn.Module):
    """The port's Unit3Dpy. A padding that is the same everywhere goes into the convolution, as it does there."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, eps: float) -> None:
        super().__init__()
        around = margins((kernel,) * 3, (stride,) * 3)
        self.pad = [] if len(set(around)) == 1 else around
        within = 0 if self.pad else around[0]
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, padding=within, bias=False)
        self.batch3d = nn.BatchNorm3d(outputs, eps)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = functional.pad(maps, self.pad) if self.pad else maps
        return functional.relu(self.batch3d(self.conv3d(maps)))


class PortPool(nn.Module):
    """The pool inside a block."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return pooled(maps, (3, 3, 3), (1, 1, 1))


class PortBlock(nn.Module):
    """The port's Mixed."""

    def __init__(self, inputs: int, outputs: tuple[int, ...], eps: float) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3 = outputs
        self.branch_0 = PortUnit(inputs, b0, 1, 1, eps)
        self.branch_1 = nn.Sequential(PortUnit(inputs, b1a, 1, 1, eps), PortUnit(b1a, b1b, 3, 1, eps))
        self.branch_2 = nn.Sequential(PortUnit(inputs, b2a, 1, 1, eps), PortUnit(b2a, b2b, 3, 1, eps))
        self.branch_3 = nn.Sequential(PortPool(), PortUnit(inputs, b3, 1, 1, eps))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat((self.branch_0(maps), self.branch_1(maps), self.branch_2(maps), self.branch_3(maps)), 1)


class PortClassifier(nn.Module):
    """Never run; its weights are part of the port's file."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, 400, 1)


class Port(nn.Module):
    """The whole port for clips of 3 (RGB) or 2 channels (flow); `width` multiplies the channels of every layer."""

    def __init__(self, image_channels: int, eps: float, width: float = 1.0) -> None:
        super().__init__()
        stem, wide = (max(1, round(channels * width)) for channels in (64, 192))
        self.conv3d_1a_7x7 = PortUnit(image_channels, stem, 7, 2, eps)
        self.conv3d_2b_1x1 = PortUnit(stem, stem, 1, 1, eps)
        self.conv3d_2c_3x3 = PortUnit(stem, wide, 3, 1, eps)
        inputs = wide
        for name, outputs in BLOCKS.items():
            widths = tuple(max(1, round(channels * width)) for channels in outputs)
            setattr(self, f"mixed_{name}", PortBlock(inputs, widths, eps))
            inputs = widths[0] + widths[2] + widths[4] + widths[5]
        self.conv3d_0c_1x1 = PortClassifier(inputs)

    def forward(self, clip: torch.Tensor, last: str) -> dict[str, torch.Tensor]:
        """The output of every convolution layer and block up to `last`, by name."""
        found = {"conv3d_1a_7x7": self.conv3d_1a_7x7(clip)}
        found["conv3d_2b_1x1"] = self.conv3d_2b_1x1(pooled(found["conv3d_1a_7x7"], (1, 3, 3), (1, 2, 2)))
        found["conv3d_2c_3x3"] = maps = self.conv3d_2c_3x3(found["conv3d_2b_1x1"])
        for name in BLOCKS:
            if last in found:
                break
            if name in POOL_BEFORE:
                maps = pooled(maps, *POOL_BEFORE[name])
            found[f"mixed_{name}"] = maps = self.get_submodule(f"mixed_{name}")(maps)
        return found
