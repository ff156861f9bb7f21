"""Functions that load or create the backbone that the section [visual] describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models.backbones.backbone import Backbone, BackboneSizes, assemble_backbone, seed_backbone, sizes_of
from models.files.weights import load_i3d, load_resnet, load_trunk, load_video
from pipeline.sections.features.visual import BackboneSection, TrunkSection
from pipeline.stages.support.job import RawFile

EPS = {"reference": 1e-5, "tensorflow": 1e-3}


class WrongBackbone(ValueError):
    """Error of weights that belong to another backbone than the config names."""


def trunk(
    visual: TrunkSection, stream: str, files: Mapping[str, RawFile], inputs: Mapping[str, tuple[Path, ...]]
) -> Backbone:
    """Return the frozen trunk of a stream, with the weights that visual.weights (visual.flow_weights) names.

    `files` are the raw files that the config names; `inputs` are the input artifacts of the stage, which include
    PretrainedTrunk if visual.weights = "pretrain". Raises `WrongBackbone` if the weights do not fit or are missing, and
    CheckpointError.
    """
    key, weights = visual.weights_of(stream)
    if weights == "seeded":
        return seeded(visual, stream)
    if weights == "pretrain":
        if "PretrainedTrunk.rgb" not in inputs:
            raise WrongBackbone(f"{key} = 'pretrain', but the pretrained trunk is not there; run its stage first")
        (folder,) = inputs["PretrainedTrunk.rgb"]
        return load_trunk(folder / "trunk.safetensors")
    eps = EPS[visual.batch_norm]
    if weights == "checkpoint":
        path = Path(files["model.checkpoint"]["path"])
        video = load_video(path, eps)
    else:
        path = Path(files[key]["path"])
        video = load_i3d(path, eps) if visual.backbone == "i3d" else load_resnet(path, visual.frames)
    found = sizes_of(video)
    if (found.name, found.modality) != (visual.backbone, stream):
        raise WrongBackbone(
            f"{key}: {path} holds {found.name} for {found.modality}; expected {visual.backbone} for {stream}."
            " Name another file, or correct visual.backbone and visual.modality."
        )
    return video


def seeded(visual: BackboneSection, stream: str) -> Backbone:
    """Create a backbone with calibrated random weights, which depend only on the seed and the sizes."""
    sizes = BackboneSizes(visual.backbone, stream, EPS[visual.batch_norm], visual.width, visual.frames)
    video = assemble_backbone(sizes)
    seed_backbone(video, visual.seed)
    return video
