"""The stage TrainedModel, which trains ACGA on the train set or loads it from a checkpoint.

model.safetensors       the whole network, including the backbone
training.json           the losses of each epoch, the origin of the weights, and digests of the weights after some steps
last_epoch.safetensors  the training state before the last epoch, if that is not the first one
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from models.acga import ACGA
from models.files import checkpoints
from models.training.loop import LAST_EPOCH
from pipeline.stages.support.compute import prepare
from pipeline.stages.support.job import Job, StreamRecords
from pipeline.stages.support.weights import EPS
from pipeline.stages.training.network import Settings, trail, train_here
from pipeline.stages.training.processes import train_together

__all__ = ["Settings", "WrongStream", "build", "check"]


def build(job: Job[Settings, StreamRecords]) -> None:
    """Train the network, or load the checkpoint strictly and write it in this project's format.

    Training resumes from `job.resume` if it was interrupted. Raises `WrongStream` if the checkpoint does not match.
    """
    device = prepare(job.settings.compute)
    visual, stream = job.settings.visual, job.records["stream"]
    if job.settings.model.checkpoint:
        source = Path(job.files["model.checkpoint"]["path"])
        model = checkpoints.load_any(source, EPS[visual.batch_norm])
        check(model, stream, source)
        job.notes["weights"] = "those of model.checkpoint"
        checkpoints.save(model, job.out / "model.safetensors")
        origin, losses = "checkpoint", []
    else:
        processes = job.settings.training.processes
        found = train_here(job, device) if processes == 1 else train_together(job, processes)
        origin, losses = "trained", [asdict(loss) | {"total": loss.total} for loss in found]
        if (job.resume / LAST_EPOCH).exists():
            os.link(job.resume / LAST_EPOCH, job.out / LAST_EPOCH)
    _, weights = visual.weights_of(stream)
    document = {
        "origin": origin,
        "trunk": weights,
        "weights": job.notes["weights"],
        "epochs": losses,
        "trail": trail(job.resume),
    }
    (job.out / "training.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


def check(model: ACGA, stream: str, path: Path) -> None:
    """Check that the network of a checkpoint has the stream of the config. Raises `WrongStream` if it has not."""
    if model.video.modality != stream:
        raise WrongStream(f"model.checkpoint: {path} sees {model.video.modality}, but visual.modality is {stream!r}")


class WrongStream(ValueError):
    """Error of a checkpoint whose network has another input stream than the config."""
