"""Loading and saving of trained networks: our own safetensors files and the authors' checkpoints."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.acga import ACGA, Sizes, assemble
from models.backbones.backbone import BackboneSizes
from models.files.forms import stem_sizes
from models.files.tensors import REMEDY, CheckpointError, filled, is_safetensors, read_tensors, shaped, write_tensors
from models.files.weights import MODEL_KEY, backbone_sizes, reference_state

REFERENCE_EPS = 1e-5  # eps of the batch norms in the authors' copy of I3D

# Our parameter names -> the authors', which have the prefix `module.` of DataParallel.
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


def save(model: ACGA, path: Path) -> None:
    """Write the model to a safetensors file, atomically; equal models give equal bytes."""
    write_tensors(path, model.state_dict(), {MODEL_KEY: json.dumps(dataclasses.asdict(model.sizes), sort_keys=True)})


def load(path: Path, device: str = "cpu") -> ACGA:
    """Return the model from a file written by `save`, in evaluation mode. Raises CheckpointError.

    On the device "meta", names and shapes are checked and no values are read.
    """
    tensors, sizes = read_tensors(path, MODEL_KEY, device)
    with torch.device(device):
        model = assemble(sizes_from(path, sizes))
    return filled(model, tensors, path)


def load_reference(path: Path, eps: float = REFERENCE_EPS, device: str = "cpu") -> ACGA:
    """Return the model from a checkpoint of the authors' code, in evaluation mode.

    `eps` is that of I3D's batch norms, which the file does not hold. Raises CheckpointError, whose message lists the
    missing and unexpected names or the first shape that differs.
    """
    theirs = reference_state(path, device)
    with torch.device(device):
        model = assemble(reference_sizes(theirs, eps, path))
    names = {reference_name(name): name for name in model.state_dict()}
    # A tensor without a counterpart keeps its own name, so that it is reported as left over.
    return filled(model, {names.get(name, name): tensor for name, tensor in theirs.items()}, path, reference_name)


def save_reference(model: ACGA, path: Path, epoch: int = 0) -> None:
    """Write the model, atomically, as a checkpoint without optimizer state that the authors' code can load.

    Raises CheckpointError if their code cannot build the model, which must have attention, fusion and I3D.
    """
    for part, there in (("attention", model.sizes.attention), ("fusion", model.sizes.fused)):
        if not there:
            raise CheckpointError(f"Checkpoint {path}: the authors' network has {part}, this model has none.")
    if model.sizes.video.name != "i3d":
        raise CheckpointError(f"Checkpoint {path}: the authors' network has I3D, this model {model.sizes.video.name}.")
    state = {reference_name(name): tensor.cpu() for name, tensor in model.state_dict().items()}
    checkpoint = {"epoch": epoch, "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}
    scratch = path.with_name(f".{path.name}.part")
    torch.save(checkpoint, scratch, _use_new_zipfile_serialization=False)
    scratch.replace(path)


def load_any(path: Path, eps: float, device: str = "cpu") -> ACGA:
    """Return the model from one of our files or from an authors' checkpoint; only the latter uses `eps`."""
    return load(path, device) if is_safetensors(path) else load_reference(path, eps, device)


def reference_name(name: str) -> str:
    """Return the authors' name for one of our tensors. Raises KeyError."""
    for ours, theirs in REFERENCE_NAMES.items():
        if name.startswith(f"{ours}."):
            return f"{REFERENCE_PREFIX}{theirs}{name.removeprefix(ours)}"
    raise KeyError(name)


def reference_sizes(tensors: Mapping[str, Any], eps: float, path: Path) -> Sizes:
    """Return the sizes of the network in an authors' state dict, read from the shapes. Raises CheckpointError."""
    modality, width = stem_sizes(tensors, reference_name("video."), path)

    def outputs(name: str) -> int:
        return int(shaped(tensors, reference_name(name), 1, path).shape[0])

    return Sizes(
        video=BackboneSizes("i3d", modality, eps, width, 0),
        word_dim=outputs("text.convolution.weight"),
        channels=(outputs("decoder.upsample_medium.1.weight"), outputs("decoder.upsample_large.1.weight")),
        widths=(
            outputs("decoder.mask_small.0.weight"),
            outputs("decoder.mask_medium.0.weight"),
            outputs("decoder.mask_large.0.weight"),
        ),
        attention=True,
    )


def sizes_from(path: Path, values: Mapping[str, Any]) -> Sizes:
    """Return the sizes of the network in the metadata of a file. Raises CheckpointError."""
    try:
        lists = {"channels": tuple(values["channels"]), "widths": tuple(values["widths"])}
        return Sizes(**{**values, **lists, "video": backbone_sizes(path, values["video"])})
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"Checkpoint {path}: its sizes {values} make no ACGA: {error!r}. {REMEDY}") from error
