"""The forms in which people have the weights of I3D and ResNets, made from small networks of ours."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from models.backbones.i3d import I3D
from models.backbones.resnet import ResNet

EPS = 1e-3
State = dict[str, Tensor]


def drawn(module: nn.Module) -> nn.Module:
    """Draw every tensor of a network, in numbers that float16 represents."""
    generator = Generator().manual_seed(1)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator).mul(0.2).half())
    return module.eval()


def i3d() -> I3D:
    video = drawn(I3D("rgb", EPS, width=1 / 16))
    assert isinstance(video, I3D)
    return video


def resnet() -> ResNet:
    video = drawn(ResNet(18, 2))
    assert isinstance(video, ResNet)
    return video


def piergiaj(state: State) -> State:
    """The state under piergiaj's names."""

    def name(ours: str) -> str:
        for branch, theirs in (("0", "0"), ("1.0", "1a"), ("1.1", "1b"), ("2.0", "2a"), ("2.1", "2b"), ("3.1", "3b")):
            ours = ours.replace(f".branch_{branch}.", f".b{theirs}.")
        return ours[0].upper() + ours[1:].replace("batch3d", "bn")

    return {name(ours).replace("Conv3d_0c_1x1", "logits"): tensor for ours, tensor in state.items()}


def without(state: State, part: str) -> State:
    return {name: tensor for name, tensor in state.items() if part not in name}


def of_classes(state: State, name: str, count: int) -> State:
    heads = {each: torch.ones(count, *state[each].shape[1:]) for each in (f"{name}.weight", f"{name}.bias")}
    return state | heads


def prefixed(state: State) -> State:
    return {f"module.{name}": tensor for name, tensor in state.items()}


def half(state: State) -> State:
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


LAST, LOGITS = "conv3d_0c_1x1.conv3d", "logits.conv3d"
I3D_FORMS: dict[str, tuple[Callable[[State], object], str]] = {
    "the port": (dict, "I3D RGB, port names, 400 classes"),
    "piergiaj": (piergiaj, "I3D RGB, piergiaj names, 400 classes"),
    "charades": (lambda s: of_classes(piergiaj(s), LOGITS, 157), "I3D RGB, piergiaj names, 157 classes"),
    "prefix": (prefixed, "I3D RGB, port names, 400 classes, prefix module. removed"),
    "state_dict": (lambda s: {"state_dict": prefixed(piergiaj(s)), "epoch": 3}, "wrapped in 'state_dict', prefix"),
    "model": (lambda s: {"model": s}, "wrapped in 'model'"),
    "float16": (half, "float16 made float32"),
    "no classifier": (lambda s: without(piergiaj(s), "logits"), "I3D RGB, piergiaj names, no classifier"),
    "no counters": (lambda s: without(s, "num_batches_tracked"), "I3D RGB, port names, 400 classes"),
    "all": (
        lambda s: {"state_dict": half(prefixed(without(of_classes(piergiaj(s), LOGITS, 7), "num_batches_tracked")))},
        "I3D RGB, piergiaj names, 7 classes, wrapped in 'state_dict', prefix module. removed, float16 made float32",
    ),
}
RESNET_FORMS: dict[str, tuple[Callable[[State], object], str]] = {
    "torchvision": (dict, "ResNet 18, torchvision names, 1000 classes"),
    "timm": (lambda s: of_classes(s, "fc", 10), "ResNet 18, torchvision names, 10 classes"),
    "no classifier": (lambda s: without(s, "fc."), "ResNet 18, torchvision names, no classifier"),
    "all": (lambda s: {"model": half(prefixed(without(of_classes(s, "fc", 3), "num_batches")))}, "prefix module."),
}
