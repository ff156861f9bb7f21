"""TrainedModel: ACGA, trained on the train set or taken from a checkpoint.

model.safetensors   the whole network, trunk included
training.json       the loss of each epoch; where the weights came from
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from extractors.samples import StoredSamples
from models import acga, checkpoints
from models.training import TrainingProgress, TrainingSettings, train
from pipeline.recipes.compute import prepare
from pipeline.recipes.job import Job
from pipeline.recipes.weights import EPS, trunk


def build(job: Job) -> None:
    """Train, going on from `job.resume` after a kill; or load the checkpoint strictly and write it in our format."""
    device = prepare(job.sections["compute"])
    if job.sections["model"]["checkpoint"]:
        source = Path(job.members["files"]["model.checkpoint"]["path"])
        model = checkpoints.load_any(source, EPS[job.sections["visual"]["batch_norm"]])
        losses: list[dict[str, float]] = []
        origin = "checkpoint"
    else:
        model, losses = _train(job, device)
        origin = "trained"
    checkpoints.save(model, job.out / "model.safetensors")
    document = {"origin": origin, "trunk": job.sections["visual"]["weights"], "epochs": losses}
    (job.out / "training.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


def _train(job: Job, device: torch.device) -> tuple[acga.ACGA, list[dict[str, float]]]:
    section, text, training = job.sections["model"], job.sections["text"], job.sections["training"]
    model = acga.build(
        trunk(job),
        text["dim"],
        tuple(section["channels"]),
        tuple(section["widths"]),
        section["attention"],
        section["initialisation"],
        torch.Generator().manual_seed(section["seed"]),
        section["mode"],
    )
    samples = StoredSamples.of(job.inputs)

    def progress(at: TrainingProgress) -> None:
        job.progress(at.epoch * at.steps + at.step + 1, at.epochs * at.steps)

    settings = TrainingSettings(gradient_norm=None, **training)
    losses = train(model, samples, settings, device, job.resume, progress)
    return model, [asdict(loss) | {"total": loss.total} for loss in losses]
