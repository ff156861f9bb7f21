"""Weights to start from when there are none to load: pure functions of a generator or a seed."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from models.backbones.i3d import I3D, IMAGE_CHANNELS, LAYERS

# Calibration clips: enough positions for the statistics of the deepest layers, small enough to take a second.
CALIBRATION_CLIPS = 4
CALIBRATION_FRAMES = 16
CALIBRATION_SIZE = 64
CALIBRATION_EPS = 1e-5


def seed_i3d(i3d: I3D, seed: int) -> None:
    """Give I3D kaiming (fan out) convolutions, and batch norms that bring smooth random clips to unit scale everywhere.

    PyTorch's default initialisation lets the features shrink to 1e-5 by `mixed_4e`, which eps then swallows. Computed
    in float64 and rounded once, so that thread counts do not show; the weights do not depend on the network's own eps.
    """
    generator = Generator().manual_seed(seed)
    initialise_trunk(i3d, generator)
    clips = smooth_clips(IMAGE_CHANNELS[i3d.modality], generator)
    calibrate(i3d, lambda: i3d.trunk(clips.double(), tap=LAYERS[-1]))


def initialise_trunk(network: nn.Module, generator: Generator) -> None:
    """Give a network kaiming (fan out) convolutions without bias, and batch norms that have seen nothing yet."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.reset_running_stats()
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def calibrate(network: nn.Module, run: Callable[[], object]) -> None:
    """Set every batch norm's running statistics to those of a run, layer after layer; the mode stays as it was.

    The network is float64 in the run, and float32 afterwards.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)]
    training, momenta, eps = network.training, [norm.momentum for norm in norms], [norm.eps for norm in norms]
    for norm in norms:
        norm.momentum, norm.eps = 1.0, CALIBRATION_EPS  # running statistics = those of the last batch
    try:
        with torch.no_grad():
            network.double().train()
            run()
    finally:
        network.float().train(training)
        for norm, momentum, own in zip(norms, momenta, eps, strict=True):
            norm.momentum, norm.eps = momentum, own
            norm.num_batches_tracked.zero_()  # type: ignore[union-attr] # ours keep statistics, and so count


def smooth_clips(channels: int, generator: Generator) -> Float[Tensor, "b c t h w"]:
    """Return random clips in [-1, 1] whose details come at three scales, as in natural images."""
    size = (CALIBRATION_FRAMES, CALIBRATION_SIZE, CALIBRATION_SIZE)
    clips = torch.zeros(CALIBRATION_CLIPS, channels, *size, dtype=torch.float64)
    for octave in range(3):
        grid = (3 * 2**octave, 4 * 2**octave, 4 * 2**octave)
        noise = torch.randn(CALIBRATION_CLIPS, channels, *grid, dtype=torch.float64, generator=generator)
        clips += functional.interpolate(noise, size=size, mode="trilinear", align_corners=False) / 2**octave
    return clips.clamp(-1.5, 1.5) / 1.5


def initialise_default(module: nn.Module, generator: Generator) -> None:
    """Give every convolution within PyTorch's default, from a generator of ours."""
    for part in module.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(part.weight, a=math.sqrt(5), generator=generator)
            if part.bias is not None:
                fan_in = part.weight[0].numel()
                nn.init.uniform_(part.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)


def initialise_linear(module: nn.Module, generator: Generator) -> None:
    """Give every linear layer within weights from N(0, 0.02) and no bias, as the authors do."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02, generator=generator)
            nn.init.zeros_(part.bias)


def initialise_kaiming(module: nn.Module, generator: Generator) -> None:
    """Give every 2-D convolution within kaiming weights (fan in, for ReLU) and no bias."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu", generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def initialise_averaging(convolution: nn.Conv2d) -> None:
    """Make a convolution return the mean of its input channels."""
    height, width = convolution.kernel_size
    with torch.no_grad():
        nn.init.zeros_(convolution.weight)
        convolution.weight[:, :, height // 2, width // 2] = 1 / convolution.in_channels
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
