"""Initialisation of networks without pretrained weights; the results depend only on a generator or a seed."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from models.backbones.i3d import I3D, IMAGE_CHANNELS, LAYERS

# Size of the calibration clips: large enough for the statistics of the deepest layers, small enough to take a second.
CALIBRATION_CLIPS = 4
CALIBRATION_FRAMES = 16
CALIBRATION_SIZE = 64
CALIBRATION_EPS = 1e-5


def seed_i3d(i3d: I3D, seed: int) -> None:
    """Initialise I3D with kaiming (fan out) convolutions and with batch norms calibrated on smooth random clips.

    The calibration gives every layer's output unit scale. With PyTorch's default initialisation the features shrink to
    1e-5 by `mixed_4e`, where the eps of batch norm dominates. Computation is in float64 and rounded once, so that the
    result does not depend on the number of threads; it does not depend on the network's own eps either.
    """
    generator = Generator().manual_seed(seed)
    initialise_trunk(i3d, generator)
    clips = smooth_clips(IMAGE_CHANNELS[i3d.modality], generator)
    calibrate(i3d, lambda: i3d.trunk(clips.double(), tap=LAYERS[-1]))


def initialise_trunk(network: nn.Module, generator: Generator) -> None:
    """Initialise convolutions with kaiming (fan out) weights and zero bias, and reset all batch norms."""
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
    """Set the running statistics of every batch norm to those of one forward pass in training mode, made by `run`.

    The network is float64 during that pass and float32 afterwards; its mode is restored.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)]
    training, momenta, eps = network.training, [norm.momentum for norm in norms], [norm.eps for norm in norms]
    for norm in norms:
        norm.momentum, norm.eps = 1.0, CALIBRATION_EPS  # momentum 1: the statistics of the last batch
    try:
        with torch.no_grad():
            network.double().train()
            run()
    finally:
        network.float().train(training)
        for norm, momentum, own in zip(norms, momenta, eps, strict=True):
            norm.momentum, norm.eps = momentum, own
            norm.num_batches_tracked.zero_()  # type: ignore[union-attr] # the norms here track statistics


def smooth_clips(channels: int, generator: Generator) -> Float[Tensor, "b c t h w"]:
    """Return random float64 clips in [-1, 1] with detail at three scales, similar to natural images."""
    size = (CALIBRATION_FRAMES, CALIBRATION_SIZE, CALIBRATION_SIZE)
    clips = torch.zeros(CALIBRATION_CLIPS, channels, *size, dtype=torch.float64)
    for octave in range(3):
        grid = (3 * 2**octave, 4 * 2**octave, 4 * 2**octave)
        noise = torch.randn(CALIBRATION_CLIPS, channels, *grid, dtype=torch.float64, generator=generator)
        clips += functional.interpolate(noise, size=size, mode="trilinear", align_corners=False) / 2**octave
    return clips.clamp(-1.5, 1.5) / 1.5


def initialise_default(module: nn.Module, generator: Generator) -> None:
    """Initialise every convolution in the module as PyTorch does by default, but from the given generator."""
    for part in module.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(part.weight, a=math.sqrt(5), generator=generator)
            if part.bias is not None:
                fan_in = part.weight[0].numel()
                nn.init.uniform_(part.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)


def initialise_linear(module: nn.Module, generator: Generator) -> None:
    """Initialise every linear layer in the module with standard deviation 0.02 and zero bias, as the authors do."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02, generator=generator)
            nn.init.zeros_(part.bias)


def initialise_kaiming(module: nn.Module, generator: Generator) -> None:
    """Initialise every 2-D convolution in the module with kaiming weights (fan in, for ReLU) and zero bias."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu", generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def initialise_averaging(convolution: nn.Conv2d) -> None:
    """Set the weights of a convolution so that it returns the mean of its input channels."""
    height, width = convolution.kernel_size
    with torch.no_grad():
        nn.init.zeros_(convolution.weight)
        convolution.weight[:, :, height // 2, width // 2] = 1 / convolution.in_channels
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
