"""Functions that load or create the backbone that the section [visual] describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.backbones.backbone import Backbone, BackboneSizes, assemble_backbone, seed_backbone, sizes_of
from models.files.forms import Form, read_i3d, read_resnet
from models.files.weights import load_trunk, load_video
from pipeline.sections.features.visual import BackboneSection, TrunkSection
from pipeline.stages.support.job import RawFile

EPS = {"reference": 1e-5, "tensorflow": 1e-3}


class WrongBackbone(ValueError):
    """Error of weights that belong to another backbone than the config names."""


@dataclass(frozen=True)
class Trunk:
    """A frozen trunk, and one line that says where its weights come from."""

    video: Backbone
    weights: str


def trunk(
    visual: TrunkSection, stream: str, files: Mapping[str, RawFile], inputs: Mapping[str, tuple[Path, ...]]
) -> Trunk:
    """Return the frozen trunk of a stream, with the weights that visual.weights (visual.flow_weights) names.

    `files` are the raw files that the config names; `inputs` are the input artifacts of the stage, which include
    PretrainedTrunk if visual.weights = "pretrain". Raises `WrongBackbone` if the weights do not fit or are missing, and
    CheckpointError.
    """
    key, weights = visual.weights_of(stream)
    if weights == "seeded":
        return Trunk(seeded(visual, stream), f"random (seed {visual.seed})")
    if weights == "pretrain":
        if "PretrainedTrunk.rgb" not in inputs:
            raise WrongBackbone(f"{key} = 'pretrain', but the pretrained trunk is not there; run its stage first")
        (folder,) = inputs["PretrainedTrunk.rgb"]
        return Trunk(load_trunk(folder / "trunk.safetensors"), "pretrained on the data set")
    file = "model.checkpoint" if weights == "checkpoint" else key
    return from_file(visual, stream, Path(files[file]["path"]))


def from_file(visual: TrunkSection, stream: str, path: Path, device: str = "cpu") -> Trunk:
    """Return the trunk of a stream from a file of weights, or from the trained model that model.checkpoint names.

    On the device "meta", names and shapes are checked and no values are read. Raises `WrongBackbone` and
    CheckpointError.
    """
    key, weights = visual.weights_of(stream)
    eps = EPS[visual.batch_norm]
    video: Backbone
    if weights == "checkpoint":
        video, described = load_video(path, eps, device), "those of model.checkpoint"
    else:
        if visual.backbone == "i3d":
            video, form = read_i3d(path, eps, device)
        else:
            video, form = read_resnet(path, visual.frames, device)
        described = form.describe(video) + _contradiction(form, visual)
    found = sizes_of(video)
    if (found.name, found.modality) != (visual.backbone, stream):
        raise WrongBackbone(
            f"{key}: {path} holds {found.name} for {found.modality}; expected {visual.backbone} for {stream}."
            " Name another file, or correct visual.backbone and visual.modality."
        )
    return Trunk(video, described)


def _contradiction(form: Form, visual: TrunkSection) -> str:
    """Return what to say if the config gives the batch norms another eps than the source of the weights does."""
    if form.eps is None or form.eps == EPS[visual.batch_norm]:
        return ""
    (fitting,) = (name for name, eps in EPS.items() if eps == form.eps)
    return (
        f" (its source has batch norms with eps {form.eps:g}, but visual.batch_norm = {visual.batch_norm!r} gives"
        f" {EPS[visual.batch_norm]:g}; visual.batch_norm={fitting} follows the source)"
    )


def seeded(visual: BackboneSection, stream: str) -> Backbone:
    """Create a backbone with calibrated random weights, which depend only on the seed and the sizes."""
    sizes = BackboneSizes(visual.backbone, stream, EPS[visual.batch_norm], visual.width, visual.frames)
    video = assemble_backbone(sizes)
    seed_backbone(video, visual.seed)
    return video
