"""The stage PretrainedTrunk, which pretrains I3D on the actor and action labels of the train set.

trunk.safetensors   the whole I3D
pretraining.json    the mean loss of each epoch
"""

from __future__ import annotations

import json
import logging

from data.wording import counted
from extractors.shards.labelled_clips import StoredClips
from models.backbones.i3d import I3D
from models.files.weights import save_trunk
from models.training.pretraining import PretrainingProgress, PretrainingSettings, pretrain
from pipeline.sections.compute import ComputeSection
from pipeline.sections.features.visual import BackboneSection
from pipeline.sections.section import Section
from pipeline.sections.training.pretrain import PretrainSection
from pipeline.stages.support.compute import prepare
from pipeline.stages.support.job import Job, StreamRecords
from pipeline.stages.support.weights import WrongBackbone, seeded

log = logging.getLogger(__name__)


class Settings(Section):
    """The sections that this stage reads."""

    compute: ComputeSection
    pretrain: PretrainSection
    visual: BackboneSection


def build(job: Job[Settings, StreamRecords]) -> None:
    """Pretrain the trunk from seeded weights. Raises `WrongBackbone` if the backbone is not I3D."""
    device = prepare(job.settings.compute)
    section = job.settings.pretrain
    settings = PretrainingSettings(**section.model_dump(exclude={"videos"}))
    clips = StoredClips(job.inputs["Frames"], job.inputs["Masks"], frozenset(section.videos))
    unnamed, count = clips.unnamed
    if unnamed:
        job.notes["labels"] = f"{unnamed} of {counted(count, 'instance')} have no actor and action"
        log.info("pretraining: %s, and are only told from the background", job.notes["labels"])
    i3d = seeded(job.settings.visual, "rgb")
    if not isinstance(i3d, I3D):
        raise WrongBackbone(f"visual.backbone = {job.settings.visual.backbone!r}: only I3D is pretrained")

    def progress(at: PretrainingProgress) -> None:
        job.progress(at.epoch * at.steps + at.step + 1, at.epochs * at.steps)

    losses = pretrain(i3d, clips, settings, device, progress)
    save_trunk(i3d.cpu(), job.out / "trunk.safetensors")
    (job.out / "pretraining.json").write_text(json.dumps({"epochs": losses}, indent=1), encoding="utf-8")
