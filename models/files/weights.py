"""Loading and saving of weights: our own safetensors files, and PyTorch's pickles, read with `weights_only`.

This module covers tensors and backbones only, so that extracted features do not depend on the code of the network after
the backbone; see `models.files.checkpoints` for whole networks.
"""

import dataclasses
import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn

from models.backbones.backbone import Backbone, BackboneSizes, assemble_backbone, sizes_of
from models.backbones.i3d import I3D, IMAGE_CHANNELS, STEM_CHANNELS
from models.backbones.resnet import ResNet, resnet_depth

Module = TypeVar("Module", bound=nn.Module)

REMEDY = "Fetch or write it again, and load it with the sizes and format that it was saved with."

# Each file has one metadata key, because safetensors writes several in random order and equal models must give equal
# bytes.
MODEL_KEY = "acga"
TRUNK_KEY = "i3d"
COUNTER = ".num_batches_tracked"

# Prefixes of the backbone's parameter names in our models and in the authors' checkpoints.
VIDEO = "video."
REFERENCE_VIDEO = "module.video_model.model."


class CheckpointError(ValueError):
    """Error raised if a file of weights is damaged, unsafe or does not fit the network."""


def save_trunk(video: Backbone, path: Path) -> None:
    """Write a backbone to a safetensors file, atomically; equal backbones give equal bytes."""
    sizes = dataclasses.asdict(sizes_of(video))
    write_tensors(path, video.state_dict(), {TRUNK_KEY: json.dumps(sizes, sort_keys=True)})


def load_trunk(path: Path) -> Backbone:
    """Return the backbone from a file of `save_trunk`, on the CPU and in evaluation mode. Raises CheckpointError."""
    tensors, sizes = read_tensors(path, TRUNK_KEY)
    return filled(assemble_backbone(backbone_sizes(path, sizes)), tensors, path)


def backbone_sizes(path: Path, values: Any) -> BackboneSizes:
    """Return the sizes of a backbone from the values in a file's metadata. Raises CheckpointError."""
    try:
        return BackboneSizes(**values)
    except TypeError as error:
        raise CheckpointError(f"Checkpoint {path}: its sizes {values} make no backbone: {error}. {REMEDY}") from error


def load_i3d(path: Path, eps: float) -> I3D:
    """Return the I3D from a state dict file of the port, on the CPU and in evaluation mode.

    Modality and width are read from the shapes; `eps` is not in the file. Raises CheckpointError.
    """
    tensors = state_dict(path)
    modality, width = stem_sizes(tensors, "", path)
    return filled(I3D(modality, eps, width), tensors, path)


def load_resnet(path: Path, frames: int) -> ResNet:
    """Return the ResNet from a state dict file of torchvision, on the CPU and in evaluation mode.

    The depth is read from the parameter names. Raises CheckpointError and NotAResNet.
    """
    tensors = state_dict(path)
    return filled(ResNet(resnet_depth(tensors), frames), tensors, path)


def load_video(path: Path, eps: float) -> Backbone:
    """Return the backbone of a trained model, from one of our files or from the authors' checkpoint.

    `eps` is used only for the authors' checkpoint. All other tensors are ignored. Raises CheckpointError.
    """
    if is_reference(path):
        tensors, prefix = reference_state(path), REFERENCE_VIDEO
        modality, width = stem_sizes(tensors, prefix, path)
        video: Backbone = I3D(modality, eps, width)
    else:
        tensors, sizes = read_tensors(path, MODEL_KEY)
        prefix, video = VIDEO, assemble_backbone(backbone_sizes(path, sizes.get("video")))
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return filled(video, own, path)


def state_dict(path: Path) -> dict[str, Any]:
    """Return the state dict in a file saved by PyTorch. Raises CheckpointError."""
    tensors = read_pickle(path)
    if not isinstance(tensors, Mapping):
        raise CheckpointError(f"Checkpoint {path} holds a {type(tensors).__name__}, expected a state dict. {REMEDY}")
    return dict(tensors)


def reference_state(path: Path) -> dict[str, Any]:
    """Return the state dict in a checkpoint of the authors' code. Raises CheckpointError."""
    checkpoint = read_pickle(path)
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get("state_dict"), Mapping):
        raise CheckpointError(f"Checkpoint {path} has no 'state_dict', expected the authors' format. {REMEDY}")
    return dict(checkpoint["state_dict"])


def is_reference(path: Path) -> bool:
    """Return whether a file is a pickle of PyTorch and not one of our safetensors files. Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] != b"{"  # safetensors: 8 bytes of length, then JSON
    except OSError as error:
        raise CheckpointError(f"Checkpoint {path} cannot be read: {error}. {REMEDY}") from error


def stem_sizes(tensors: Mapping[str, Any], prefix: str, path: Path) -> tuple[str, float]:
    """Return modality and width of the I3D whose names in the state dict have a prefix. Raises CheckpointError."""
    stem = shaped(tensors, f"{prefix}conv3d_1a_7x7.conv3d.weight", 5, path)
    modalities = {channels: modality for modality, channels in IMAGE_CHANNELS.items()}
    if stem.shape[1] not in modalities:
        raise CheckpointError(
            f"Checkpoint {path}: I3D's first layer has {stem.shape[1]} input channels, expected 3 or 2. {REMEDY}"
        )
    return modalities[stem.shape[1]], stem.shape[0] / STEM_CHANNELS


def shaped(tensors: Mapping[str, Any], name: str, axes: int, path: Path) -> Tensor:
    """Return a tensor of a state dict. Raises CheckpointError if it is missing or has fewer than `axes` axes."""
    tensor = tensors.get(name)
    if not isinstance(tensor, Tensor) or tensor.ndim < axes:
        raise CheckpointError(f"Checkpoint {path} has no tensor {name!r} of {axes} axes or more. {REMEDY}")
    return tensor


def filled(module: Module, tensors: Mapping[str, Any], path: Path, naming: Callable[[str], str] = str) -> Module:
    """Return the module in evaluation mode, after loading the tensors as its state dict. Raises CheckpointError.

    `naming` maps a name of the module to the name in the file, for error messages. Names and shapes must be those of
    the module, except that the batch norms' `num_batches_tracked` may be missing, as in old files.
    """
    expected = module.state_dict()
    given = {name: tensor for name, tensor in expected.items() if name.endswith(COUNTER)} | dict(tensors)
    missing = sorted(naming(name) for name in expected if name not in given)
    left_over = sorted(name for name in given if name not in expected)
    if missing or left_over:
        raise CheckpointError(f"Checkpoint {path}: missing names {missing}, left over names {left_over}. {REMEDY}")
    for name, tensor in given.items():
        if not isinstance(tensor, Tensor) or tensor.shape != expected[name].shape:
            found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            shape = tuple(expected[name].shape)
            raise CheckpointError(f"Checkpoint {path}: {naming(name)} has shape {found}, expected {shape}. {REMEDY}")
    module.load_state_dict(given)
    module.eval()
    return module


def read_pickle(path: Path) -> object:
    """Return the object that PyTorch saved in a file, without running code from it. Raises CheckpointError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"Checkpoint {path} is damaged, or not weights alone: {error}. {REMEDY}") from error


def read_tensors(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a safetensors file and the JSON object under a metadata key. Raises CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        return tensors, dict(json.loads(metadata[key]))
    except KeyError as error:
        raise CheckpointError(
            f"Checkpoint {path} has metadata {sorted(metadata)}, expected {key!r}. {REMEDY}"
        ) from error
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"Checkpoint {path} is damaged, or no safetensors file: {error}. {REMEDY}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata to a safetensors file, atomically."""
    write_bytes(path, serialised({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: it is synchronised to disk under another name and then renamed."""
    scratch = path.with_name(f".{path.name}.part")
    with scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
