"""The network that [model] describes, and its training in this process."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from extractors.samples import StoredSamples
from models import acga, checkpoints
from models.distributed import rank
from models.training import LAST_EPOCH, STATE, EpochLoss, TrainingProgress, TrainingSettings, train
from models.weights import write_bytes
from pipeline.recipes.job import Job
from pipeline.recipes.weights import trunk

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


TRAIL = "trail.json"
TRAIL_STEPS = (1, 2, 4, 8, 16, 32)  # of an epoch; its last step is noted, too


class WrongFeatures(ValueError):
    """Features that are not those of the config's backbone."""


def network(job: Job, samples: StoredSamples) -> acga.ACGA:
    """A new network around the trunk of the job's stream. Raises WrongFeatures."""
    section = job.sections["model"]
    video = trunk(job, job.members["records"]["stream"])
    expected, found = video.channels[video.tap], samples.features_shape[0]
    if found != expected:
        raise WrongFeatures(
            f"features have {found} channels, but visual.backbone at visual.width makes {expected} after {video.tap};"
            f" correct [visual] to what the features were made with"
        )
    return acga.build(
        video,
        job.sections["text"]["dim"],
        tuple(section["channels"]),
        tuple(section["widths"]),
        section["attention"],
        section["initialisation"],
        torch.Generator().manual_seed(section["seed"]),
        section["mode"],
        section["fusion"],
    )


def train_here(job: Job, device: torch.device) -> tuple[EpochLoss, ...]:
    """Train in this process, alone or with others, of which the first one writes the model; the losses of all epochs.

    The first one also writes TensorBoard event files into the job's logs.
    """
    samples = StoredSamples.of(job.inputs, job.members["records"]["stream"])
    model = network(job, samples)
    noted = Trail(job, model)
    with Curves(job.logs) as curves:
        settings = training_settings(job)
        losses = train(model, samples, settings, device, job.resume, noted.step_done, curves.epoch_done)
    if rank() == 0:
        checkpoints.save(model, job.out / "model.safetensors")
    return losses


def training_settings(job: Job) -> TrainingSettings:
    """The section [training], as the training loop takes it."""
    section = {name: value for name, value in job.sections["training"].items() if name != "processes"}
    return TrainingSettings(**section | {"gradient_norm": section["gradient_norm"] or None})


class Trail:
    """Digests of the trained weights after a few steps, so that an audit can train some steps again and compare.

    Of the first epoch and of the last one. They lie in the job's resume folder, so that a run that was killed goes on
    with them.
    """

    def __init__(self, job: Job, model: acga.ACGA) -> None:
        self._job, self._model = job, model

    def step_done(self, at: TrainingProgress) -> None:
        """Say how far training is, and note what the weights are where it is time to."""
        done = at.step + 1
        self._job.progress(at.epoch * at.steps + done, at.epochs * at.steps)
        if rank() == 0 and (done in TRAIL_STEPS or done == at.steps):
            epoch, noted = str(at.epoch), trail(self._job.resume)
            kept = {name: steps for name, steps in noted.items() if name in ("0", epoch)}
            of_epoch = kept.get(epoch, {}) | {str(done): weights_digest(self._model)}
            write_bytes(self._job.resume / TRAIL, json.dumps(kept | {epoch: of_epoch}).encode())


def trail(folder: Path) -> dict[str, dict[str, str]]:
    """What training noted in its folder: epoch (from 0) -> steps of it done -> digest of the weights."""
    path = folder / TRAIL
    return json.loads(path.read_bytes()) if path.exists() else {}


def replayed(job: Job, device: torch.device, epoch: int, steps: int, trained: Path) -> str:
    """The digest of the weights after some steps of an epoch, in this process: from the start or, of a later epoch,
    from the state that was kept in the folder of the trained model. Raises TrainingStateError."""
    samples = StoredSamples.of(job.inputs, job.members["records"]["stream"])
    model = network(job, samples)
    if epoch > 0:
        shutil.copyfile(trained / LAST_EPOCH, job.resume / STATE)

    def stop(at: TrainingProgress) -> None:
        if (at.epoch, at.step + 1) == (epoch, steps):
            raise Enough

    with suppress(Enough):
        train(model, samples, training_settings(job), device, job.resume, stop)
    return weights_digest(model)


class Enough(Exception):
    """As many steps as were asked for."""


def weights_digest(model: acga.ACGA) -> str:
    """SHA-256, in hexadecimal, of the weights that are trained, by name."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.trained_parameters()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Curves:
    """The losses and learning rates of epochs as TensorBoard event files; of an epoch told twice the last word counts.

    Files are written once there is something to write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> Curves:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def epoch_done(self, epoch: int, loss: EpochLoss, lr: float) -> None:
        """Write the values of an epoch, counted from 0."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # here, since it takes seconds to import

            self._writer = SummaryWriter(str(self._folder), purge_step=epoch)
        values = asdict(loss) | {"total": loss.total, "lr": lr}
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()
