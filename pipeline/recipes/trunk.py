"""PretrainedTrunk: I3D, pretrained on the actor and action labels of the train set.

trunk.safetensors   the whole I3D
pretraining.json    the mean loss of each epoch
"""

from __future__ import annotations

import json

from extractors.labelled_clips import StoredClips
from models.i3d import I3D
from models.pretraining import PretrainingProgress, PretrainingSettings, pretrain
from models.weights import save_trunk
from pipeline.recipes.compute import prepare
from pipeline.recipes.job import Job
from pipeline.recipes.weights import WrongBackbone, seeded


def build(job: Job) -> None:
    """Pretrain from seeded weights."""
    device = prepare(job.sections["compute"])
    settings = dict(job.sections["pretrain"])
    clips = StoredClips(job.inputs["Frames"], job.inputs["Masks"], frozenset(settings.pop("videos")))
    i3d = seeded(job.sections["visual"], "rgb")
    if not isinstance(i3d, I3D):
        raise WrongBackbone(f"visual.backbone = {job.sections['visual']['backbone']!r}: only I3D is pretrained")

    def progress(at: PretrainingProgress) -> None:
        job.progress(at.epoch * at.steps + at.step + 1, at.epochs * at.steps)

    losses = pretrain(i3d, clips, PretrainingSettings(**settings), device, progress)
    save_trunk(i3d.cpu(), job.out / "trunk.safetensors")
    (job.out / "pretraining.json").write_text(json.dumps({"epochs": losses}, indent=1), encoding="utf-8")
