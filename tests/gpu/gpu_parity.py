"""Whether the network computes on a device what it computes in float64 on the CPU."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from models import acga
from models.acga import ACGA
from models.backbones.i3d import I3D
from models.backbones.initialisation import seed_i3d
from models.layers import Mode
from models.losses import Targets, response_losses

MODES: tuple[Mode, ...] = ("plain", "fast")
LOGITS = {torch.float64: 1e-9, torch.float32: 1e-4}  # largest difference that parity allows
GRADIENTS = {torch.float64: 1e-9, torch.float32: 1e-3}  # of a weight, relative to its length
SMALL_GRADIENT = 1e-3  # of all gradients' length: what is shorter is judged by this


@dataclass(frozen=True)
class Finding:
    """What was found in words, and whether it is as it should be."""

    text: str
    holds: bool = True


@dataclass(frozen=True)
class NetworkSize:
    """How large the network is, as `acga.build` takes it, and the side of its frames in pixels."""

    i3d_width: float
    word_dim: int
    channels: tuple[int, int]
    widths: tuple[int, int, int]
    pixels: int


FULL = NetworkSize(1.0, 300, (256, 128), (256, 128, 64), 256)
TINY = NetworkSize(1 / 16, 6, (5, 4), (6, 5, 4), 32)


@dataclass(frozen=True)
class Outcome:
    """What a network computes: logits in evaluation, logits in training, gradients. In float64, on the CPU."""

    predicted: dict[str, Tensor]
    trained: dict[str, Tensor]
    gradients: dict[str, Tensor]


def parity(size: NetworkSize, device: torch.device) -> Iterator[Finding]:
    """Compare both modes, in float64 and float32 on the device, with the plain mode in float64 on the CPU."""
    model = parity_network(size)
    expected = outcome(model, size, "plain", torch.float64, torch.device("cpu"))
    for dtype in (torch.float64, torch.float32):
        for mode in MODES:
            with tf32(False):
                found = outcome(model, size, mode, dtype, device)
            yield compared(f"{mode} mode in {dtype}", expected, found, LOGITS[dtype], GRADIENTS[dtype])
    if device.type == "cuda":
        for mode in MODES:
            with tf32(True):
                found = outcome(model, size, mode, torch.float32, device)
            yield Finding(f"{mode} mode with TF32, PyTorch's default: {difference(expected, found)}")


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Let convolutions of float32 round their inputs to 10 bits, or not; matrix products do not in any case."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def parity_network(size: NetworkSize) -> ACGA:
    """A network whose weights and statistics are all random, in float64."""
    generator = Generator().manual_seed(1)
    i3d = I3D("rgb", 1e-3, size.i3d_width)
    seed_i3d(i3d, 0)
    model = acga.build(i3d, size.word_dim, size.channels, size.widths, True, "scaled", generator).double()
    for name, tensor in model.state_dict().items():
        if name.endswith(("batch3d.weight", "running_var")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif name.endswith(("bias", "running_mean")):
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return model


def outcome(model: ACGA, size: NetworkSize, mode: Mode, dtype: torch.dtype, device: torch.device) -> Outcome:
    """What the network computes for two clips and three sentences, and the gradients of its losses."""
    generator, cells = Generator().manual_seed(2), size.pixels // 16
    channels = model.video.channels[model.video.tap]
    features = torch.randn(2, channels, 4, cells, cells, generator=generator).relu().to(device, dtype)
    words = torch.randn(3, 20, size.word_dim, generator=generator).to(device, dtype)
    clip = torch.tensor([1, 0, 1], device=device)
    sides = (cells, 4 * cells, 16 * cells)
    masks = [torch.randint(0, 2, (3, side, side), generator=generator, dtype=torch.uint8) for side in sides]
    own = copy.deepcopy(model).to(device, dtype)
    own.mode = mode
    with torch.inference_mode():
        predicted = on_cpu(vars(own.eval()(features, words, clip)))
    responses = own.train()(features, words, clip)
    response_losses(responses, Targets(*(mask.to(device) for mask in masks)), 1.5).sum().backward()
    gradients = {name: weight.grad for name, weight in own.trained_parameters() if weight.grad is not None}
    return Outcome(predicted, on_cpu(vars(responses)), on_cpu(gradients))


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in float64, on the CPU."""
    return {name: tensor.detach().cpu().double() for name, tensor in tensors.items()}


def compared(name: str, expected: Outcome, found: Outcome, logits: float, gradients: float) -> Finding:
    """Whether two outcomes differ by no more than the limits."""
    by = difference(expected, found)
    holds = by.logits <= logits and by.gradients <= gradients and set(expected.gradients) == set(found.gradients)
    return Finding(f"{name}: {by}; allowed {logits:.0e} and {gradients:.0e}", holds)


@dataclass(frozen=True)
class Difference:
    """The largest difference of logits, and the largest of a weight's gradients relative to their length."""

    logits: float
    gradients: float

    def __str__(self) -> str:
        return f"logits differ by {self.logits:.1e}, gradients by {self.gradients:.1e}"


def difference(expected: Outcome, found: Outcome) -> Difference:
    """By how much two outcomes differ; not a number where one of them is none."""
    pairs = [(expected.predicted[name], found.predicted[name]) for name in expected.predicted]
    pairs += [(expected.trained[name], found.trained[name]) for name in expected.trained]
    logits = torch.stack([(one - other).abs().max() for one, other in pairs]).max().item()
    lengths = {name: gradient.norm() for name, gradient in expected.gradients.items()}
    least = SMALL_GRADIENT * torch.stack(list(lengths.values())).norm()
    shares = [
        (found.gradients[name] - gradient).norm() / torch.maximum(lengths[name], least)
        for name, gradient in expected.gradients.items()
    ]
    return Difference(logits, torch.stack(shares).max().item())
