"""TrainedModel: ACGA, trained on the train set or taken from a checkpoint.

model.safetensors       the whole network, backbone included
training.json           the losses of each epoch; where the weights came from; digests of them after a few steps
last_epoch.safetensors  where training stood before its last epoch, if that was not the first
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from models import checkpoints
from models.acga import ACGA
from models.training import LAST_EPOCH
from pipeline.recipes.compute import prepare
from pipeline.recipes.job import Job
from pipeline.recipes.network import trail, train_here
from pipeline.recipes.training_processes import train_together
from pipeline.recipes.weights import EPS


def build(job: Job) -> None:
    """Train, going on from `job.resume` after a kill; or load the checkpoint strictly and write it in our format."""
    device = prepare(job.sections["compute"])
    visual, stream = job.sections["visual"], job.members["records"]["stream"]
    if job.sections["model"]["checkpoint"]:
        source = Path(job.members["files"]["model.checkpoint"]["path"])
        model = checkpoints.load_any(source, EPS[visual["batch_norm"]])
        check(model, stream, source)
        checkpoints.save(model, job.out / "model.safetensors")
        origin, losses = "checkpoint", []
    else:
        processes = job.sections["training"]["processes"]
        found = train_here(job, device) if processes == 1 else train_together(job, processes)
        origin, losses = "trained", [asdict(loss) | {"total": loss.total} for loss in found]
        if (job.resume / LAST_EPOCH).exists():
            os.link(job.resume / LAST_EPOCH, job.out / LAST_EPOCH)
    key = "weights" if stream == "rgb" else "flow_weights"
    document = {"origin": origin, "trunk": visual[key], "epochs": losses, "trail": trail(job.resume)}
    (job.out / "training.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


def check(model: ACGA, stream: str, path: Path) -> None:
    """Refuse a checkpoint of a network that sees something else. Raises WrongStream."""
    if model.video.modality != stream:
        raise WrongStream(f"model.checkpoint: {path} sees {model.video.modality}, but visual.modality is {stream!r}")


class WrongStream(ValueError):
    """A checkpoint of a network that sees something else than the config says."""
