"""Weights on disk: our own safetensors files, the authors' checkpoints and the I3D port's files.

No pickle of ours exists; those of others are read with `weights_only`, which runs no code.
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

from models.acga import ACGA, Sizes, assemble
from models.i3d import I3D, IMAGE_CHANNELS, STEM_CHANNELS

Module = TypeVar("Module", bound=nn.Module)

REMEDY = "Fetch or write it again, and load it with the sizes and format that it was saved with."

# One metadata key a file: safetensors writes several in random order, and equal models shall make equal bytes.
MODEL_KEY = "acga"
TRUNK_KEY = "i3d"
COUNTER = ".num_batches_tracked"

# Ours -> the authors' (theirs stand behind DataParallel's `module.`).
REFERENCE_PREFIX = "module."
REFERENCE_NAMES = {
    "video": "video_model.model",
    "text.convolution": "txt_model.0",
    "attention.reduce": "attention_layer.video_reduce",
    "attention.key": "attention_layer.video_linearK",
    "attention.query": "attention_layer.video_linearQ",
    "attention.value": "attention_layer.video_linearV",
    "attention.gate": "attention_layer.txt_increase",
    "decoder.upsample_medium": "deconv_small",
    "decoder.upsample_large": "deconv_medium",
    "decoder.mask_small": "conv_mask_small",
    "decoder.mask_medium": "conv_mask_medium",
    "decoder.mask_large": "conv_mask_large",
    "decoder.fusion": "conv_fusion",
}


class CheckpointError(ValueError):
    """A file of weights that is damaged, unsafe, or not of the network it is loaded into."""


def save(model: ACGA, path: Path) -> None:
    """Write the model, atomically; equal models make equal bytes."""
    write_tensors(path, model.state_dict(), {MODEL_KEY: json.dumps(dataclasses.asdict(model.sizes), sort_keys=True)})


def load(path: Path) -> ACGA:
    """Return the model in a file of `save`, on the CPU, in evaluation mode. Raises CheckpointError."""
    tensors, sizes = read_tensors(path, MODEL_KEY)
    return filled(assemble(sizes_from(path, sizes)), tensors, path)


def save_trunk(i3d: I3D, path: Path) -> None:
    """Write an I3D, atomically; equal ones make equal bytes."""
    sizes = {"modality": i3d.modality, "eps": i3d.eps, "width": i3d.width}
    write_tensors(path, i3d.state_dict(), {TRUNK_KEY: json.dumps(sizes, sort_keys=True)})


def load_trunk(path: Path) -> I3D:
    """Return the I3D in a file of `save_trunk`, on the CPU, in evaluation mode. Raises CheckpointError."""
    tensors, sizes = read_tensors(path, TRUNK_KEY)
    try:
        i3d = I3D(sizes["modality"], float(sizes["eps"]), float(sizes["width"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"Checkpoint {path}: its sizes {sizes} make no I3D: {error}. {REMEDY}") from error
    return filled(i3d, tensors, path)


def load_i3d(path: Path, eps: float) -> I3D:
    """Return the I3D in a weights file of the port (a state dict), on the CPU, in evaluation mode.

    Modality and width are read off the shapes; eps is not in the file. Raises CheckpointError.
    """
    tensors = read_pickle(path)
    if not isinstance(tensors, Mapping):
        raise CheckpointError(f"Checkpoint {path} holds a {type(tensors).__name__}, expected a state dict. {REMEDY}")
    modality, width = stem_sizes(tensors, "", path)
    return filled(I3D(modality, eps, width), dict(tensors), path)


def load_reference(path: Path, eps: float) -> ACGA:
    """Return the model in a checkpoint of the authors' code, on the CPU, in evaluation mode; eps is not in the file.

    Raises CheckpointError, which lists names that are missing or left over and shapes that differ.
    """
    checkpoint = read_pickle(path)
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get("state_dict"), Mapping):
        raise CheckpointError(f"Checkpoint {path} has no 'state_dict', expected the authors' format. {REMEDY}")
    theirs = dict(checkpoint["state_dict"])
    model = assemble(reference_sizes(theirs, eps, path))
    names = {reference_name(name): name for name in model.state_dict()}
    # What has no counterpart keeps its own name, so that it is reported as left over.
    return filled(model, {names.get(name, name): tensor for name, tensor in theirs.items()}, path, reference_name)


def save_reference(model: ACGA, path: Path, epoch: int) -> None:
    """Write the model as a checkpoint that the authors' code loads, atomically. It holds no optimiser state.

    Raises CheckpointError for a model without attention, which their code cannot build.
    """
    if not model.sizes.attention:
        raise CheckpointError(f"Checkpoint {path}: the authors' network has attention, this model has none.")
    state = {reference_name(name): tensor.cpu() for name, tensor in model.state_dict().items()}
    checkpoint = {"epoch": epoch, "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}
    scratch = path.with_name(f".{path.name}.part")
    torch.save(checkpoint, scratch, _use_new_zipfile_serialization=False)
    scratch.replace(path)


def is_reference(path: Path) -> bool:
    """Return whether a file is a pickle of PyTorch's, and not one of ours. Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] != b"{"  # a safetensors file is a length of 8 bytes and then JSON
    except OSError as error:
        raise CheckpointError(f"Checkpoint {path} cannot be read: {error}. {REMEDY}") from error


def load_any(path: Path, eps: float) -> ACGA:
    """Return the model in a file of ours or of the authors' code; eps is used for theirs alone."""
    return load_reference(path, eps) if is_reference(path) else load(path)


def reference_name(name: str) -> str:
    """Return the authors' name of one of our tensors."""
    for ours, theirs in REFERENCE_NAMES.items():
        if name.startswith(f"{ours}."):
            return f"{REFERENCE_PREFIX}{theirs}{name.removeprefix(ours)}"
    raise KeyError(name)


def reference_sizes(tensors: Mapping[str, Any], eps: float, path: Path) -> Sizes:
    """Return the sizes that the shapes in an authors' state dict tell."""
    modality, width = stem_sizes(tensors, reference_name("video."), path)

    def outputs(name: str) -> int:
        return int(shaped(tensors, reference_name(name), 1, path).shape[0])

    return Sizes(
        modality=modality,
        eps=eps,
        width=width,
        word_dim=outputs("text.convolution.weight"),
        channels=(outputs("decoder.upsample_medium.1.weight"), outputs("decoder.upsample_large.1.weight")),
        widths=(
            outputs("decoder.mask_small.0.weight"),
            outputs("decoder.mask_medium.0.weight"),
            outputs("decoder.mask_large.0.weight"),
        ),
        attention=True,
    )


def stem_sizes(tensors: Mapping[str, Any], prefix: str, path: Path) -> tuple[str, float]:
    """Return modality and width of an I3D whose names in a state dict have a prefix."""
    stem = shaped(tensors, f"{prefix}conv3d_1a_7x7.conv3d.weight", 5, path)
    modalities = {channels: modality for modality, channels in IMAGE_CHANNELS.items()}
    if stem.shape[1] not in modalities:
        raise CheckpointError(
            f"Checkpoint {path}: I3D's first layer has {stem.shape[1]} input channels, expected 3 or 2. {REMEDY}"
        )
    return modalities[stem.shape[1]], stem.shape[0] / STEM_CHANNELS


def shaped(tensors: Mapping[str, Any], name: str, axes: int, path: Path) -> Tensor:
    """Return a tensor of a state dict that has at least so many axes. Raises CheckpointError."""
    tensor = tensors.get(name)
    if not isinstance(tensor, Tensor) or tensor.ndim < axes:
        raise CheckpointError(f"Checkpoint {path} has no tensor {name!r} of {axes} axes or more. {REMEDY}")
    return tensor


def filled(module: Module, tensors: Mapping[str, Any], path: Path, naming: Callable[[str], str] = str) -> Module:
    """Return the module, its weights set to the tensors and in evaluation mode; `naming` gives a name in the file.

    Batch norms' step counts may be missing, as in old files; all else must be there, and no more.
    Raises CheckpointError.
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


def sizes_from(path: Path, values: Mapping[str, Any]) -> Sizes:
    """Return the sizes that a file's metadata holds. Raises CheckpointError."""
    try:
        return Sizes(**{**values, "channels": tuple(values["channels"]), "widths": tuple(values["widths"])})
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"Checkpoint {path}: its sizes {values} make no ACGA: {error!r}. {REMEDY}") from error


def read_pickle(path: Path) -> object:
    """Return what PyTorch saved in a file, as long as loading it runs no code. Raises CheckpointError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"Checkpoint {path} is damaged, or not weights alone: {error}. {REMEDY}") from error


def read_tensors(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the sizes under a metadata key of a safetensors file. Raises CheckpointError."""
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
    """Write a safetensors file, atomically."""
    write_bytes(path, serialised({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut."""
    scratch = path.with_name(f".{path.name}.part")
    with scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
