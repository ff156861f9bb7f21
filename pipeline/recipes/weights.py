"""The backbones that [visual] names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.backbones import Backbone, BackboneSizes, assemble_backbone, seed_backbone, sizes_of
from models.weights import load_i3d, load_resnet, load_trunk, load_video
from pipeline.recipes.job import Job

EPS = {"reference": 1e-5, "tensorflow": 1e-3}


class WrongBackbone(ValueError):
    """Weights of another backbone than the config names."""


def trunk(job: Job, stream: str) -> Backbone:
    """The frozen trunk of a stream. Raises what `backbone` raises."""
    folders = job.inputs.get("PretrainedTrunk.rgb", ())
    return backbone(job.sections["visual"], stream, job.members["files"], folders[0] if folders else None)


def backbone(
    visual: Mapping[str, Any], stream: str, files: Mapping[str, Mapping[str, str]], pretrained: Path | None
) -> Backbone:
    """The backbone of a stream, from where visual.weights (visual.flow_weights) says.

    `files` are the raw files that the config names, `pretrained` the folder of PretrainedTrunk's files. Raises
    WrongBackbone, and CheckpointError.
    """
    key = "weights" if stream == "rgb" else "flow_weights"
    if visual[key] == "seeded":
        return seeded(visual, stream)
    if visual[key] == "pretrain":
        if pretrained is None:
            raise WrongBackbone(
                f"visual.{key} = 'pretrain', but the pretrained trunk is not there; run its stage first"
            )
        return load_trunk(pretrained / "trunk.safetensors")
    eps = EPS[visual["batch_norm"]]
    if visual[key] == "checkpoint":
        path = Path(files["model.checkpoint"]["path"])
        video = load_video(path, eps)
    else:
        path = Path(files[f"visual.{key}"]["path"])
        video = load_i3d(path, eps) if visual["backbone"] == "i3d" else load_resnet(path, visual["frames"])
    found = sizes_of(video)
    if (found.name, found.modality) != (visual["backbone"], stream):
        raise WrongBackbone(
            f"visual.{key}: {path} holds {found.name} for {found.modality}; expected {visual['backbone']} for {stream}."
            " Name another file, or correct visual.backbone and visual.modality."
        )
    return video


def seeded(visual: Mapping[str, Any], stream: str) -> Backbone:
    """A backbone with calibrated random weights, a function of seed and sizes alone."""
    eps, frames = EPS[visual["batch_norm"]], visual["frames"]
    video = assemble_backbone(BackboneSizes(visual["backbone"], stream, eps, visual["width"], frames))
    seed_backbone(video, visual["seed"])
    return video
