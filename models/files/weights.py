"""Loading and saving of backbones: our own safetensors files, the weights that people have, and trained models.

This module covers backbones only, so that extracted features do not depend on the code of the network after the
backbone; see `models.files.checkpoints` for whole networks. On the device "meta" the loaders check names and shapes
and read no values.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.backbones.backbone import Backbone, BackboneSizes, assemble_backbone, sizes_of
from models.backbones.i3d import I3D
from models.files.forms import stem_sizes
from models.files.tensors import (
    REMEDY,
    CheckpointError,
    filled,
    is_safetensors,
    read_pickle,
    read_tensors,
    write_tensors,
)

# Each file has one metadata key, because safetensors writes several in random order and equal models must give equal
# bytes.
MODEL_KEY = "acga"
TRUNK_KEY = "i3d"

# Prefixes of the backbone's parameter names in our models and in the authors' checkpoints.
VIDEO = "video."
REFERENCE_VIDEO = "module.video_model.model."


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


def load_video(path: Path, eps: float, device: str = "cpu") -> Backbone:
    """Return the backbone of a trained model, from one of our files or from the authors' checkpoint.

    `eps` is used only for the authors' checkpoint. All other tensors are ignored. Raises CheckpointError.
    """
    if is_safetensors(path):
        tensors, sizes = read_tensors(path, MODEL_KEY, device)
        prefix = VIDEO
        with torch.device(device):
            video = assemble_backbone(backbone_sizes(path, sizes.get("video")))
    else:
        tensors, prefix = reference_state(path, device), REFERENCE_VIDEO
        modality, width = stem_sizes(tensors, prefix, path)
        with torch.device(device):
            video = I3D(modality, eps, width)
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return filled(video, own, path)


def reference_state(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Return the state dict in a checkpoint of the authors' code. Raises CheckpointError."""
    checkpoint = read_pickle(path, device)
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get("state_dict"), Mapping):
        raise CheckpointError(f"Checkpoint {path} has no 'state_dict', expected the authors' format. {REMEDY}")
    return dict(checkpoint["state_dict"])
