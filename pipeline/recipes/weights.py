"""The backbones that [visual] names."""

from __future__ import annotations

from pathlib import Path

from models.backbones import Backbone, BackboneSizes, assemble_backbone, seed_backbone
from models.weights import load_i3d, load_resnet, load_trunk, load_video
from pipeline.recipes.job import Job

EPS = {"reference": 1e-5, "tensorflow": 1e-3}


class WrongBackbone(ValueError):
    """Weights of another backbone than the config names."""


def seeded_trunk(job: Job, stream: str) -> Backbone:
    """A backbone with calibrated random weights, a function of seed and sizes alone."""
    visual = job.sections["visual"]
    eps, frames = EPS[visual["batch_norm"]], visual["frames"]
    video = assemble_backbone(BackboneSizes(visual["backbone"], stream, eps, visual["width"], frames))
    seed_backbone(video, visual["seed"])
    return video


def trunk(job: Job, stream: str) -> Backbone:
    """The frozen trunk of a stream, from where visual.weights (visual.flow_weights) says. Raises WrongBackbone."""
    visual, files = job.sections["visual"], job.members["files"]
    key = "weights" if stream == "rgb" else "flow_weights"
    if visual[key] == "seeded":
        return seeded_trunk(job, stream)
    if visual[key] == "pretrain":
        return load_trunk(job.folder("PretrainedTrunk.rgb") / "trunk.safetensors")
    eps = EPS[visual["batch_norm"]]
    if visual[key] == "checkpoint":
        path = Path(files["model.checkpoint"]["path"])
        video = load_video(path, eps)
    else:
        path = Path(files[f"visual.{key}"]["path"])
        video = load_i3d(path, eps) if visual["backbone"] == "i3d" else load_resnet(path, visual["frames"])
    name = f"resnet{video.depth}" if hasattr(video, "depth") else "i3d"
    if (name, video.modality) != (visual["backbone"], stream):
        raise WrongBackbone(
            f"visual.{key}: {path} holds {name} for {video.modality}; expected {visual['backbone']} for {stream}."
            " Name another file, or correct visual.backbone and visual.modality."
        )
    return video
