"""Functions to create the network that the section [model] describes and to train it in this process."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from extractors.shards.samples import StoredSamples
from models import acga
from models.files import checkpoints
from models.files.tensors import write_bytes
from models.training.distributed import rank
from models.training.loop import LAST_EPOCH, STATE, EpochLoss, TrainingProgress, TrainingSettings, train
from pipeline.sections.compute import ComputeSection
from pipeline.sections.features.text import WordDimension
from pipeline.sections.features.visual import TrunkSection
from pipeline.sections.section import Section
from pipeline.sections.training.model import ModelSection
from pipeline.sections.training.training import TrainingSection
from pipeline.stages.support.job import Job, StreamRecords
from pipeline.stages.support.weights import trunk

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


TRAIL = "trail.json"
TRAIL_STEPS = (1, 2, 4, 8, 16, 32)  # steps of an epoch after which a digest is recorded, besides its last step


class Settings(Section):
    """The sections that training reads."""

    compute: ComputeSection
    model: ModelSection
    text: WordDimension
    training: TrainingSection
    visual: TrunkSection


TrainingJob = Job[Settings, StreamRecords]


class WrongFeatures(ValueError):
    """Error of features that do not match the config's backbone."""


def network(job: TrainingJob, samples: StoredSamples) -> acga.ACGA:
    """Create a new network around the trunk of the job's stream.

    Raises `WrongFeatures` if the stored features have another number of channels than the trunk's output.
    """
    section = job.settings.model
    medium, large = section.channels
    small_head, medium_head, large_head = section.widths
    given = trunk(job.settings.visual, job.records["stream"], job.files, job.inputs)
    video, job.notes["weights"] = given.video, given.weights
    expected, found = video.channels[video.tap], samples.features_shape[0]
    if found != expected:
        raise WrongFeatures(
            f"features have {found} channels, but visual.backbone at visual.width makes {expected} after {video.tap};"
            f" correct [visual] to what the features were made with"
        )
    return acga.build(
        video,
        job.settings.text.dim,
        (medium, large),
        (small_head, medium_head, large_head),
        section.attention,
        section.initialisation,
        torch.Generator().manual_seed(section.seed),
        section.mode,
        section.fusion,
    )


def train_here(job: TrainingJob, device: torch.device) -> tuple[EpochLoss, ...]:
    """Train in this process, alone or as one process of a group, and return the losses of all epochs.

    The process with rank 0 writes the model, and TensorBoard event files into the job's logs.
    """
    samples = StoredSamples.of(job.inputs, job.records["stream"])
    model = network(job, samples)
    noted = Trail(job, model)
    with Curves(job.logs) as curves:
        settings = training_settings(job)
        losses = train(model, samples, settings, device, job.resume, noted.step_done, curves.epoch_done)
    if rank() == 0:
        checkpoints.save(model, job.out / "model.safetensors")
    return losses


def training_settings(job: TrainingJob) -> TrainingSettings:
    """Return the settings of the training loop from the section [training]."""
    section = job.settings.training
    values = section.model_dump(exclude={"processes", "gradient_norm"})
    return TrainingSettings(**values, gradient_norm=section.gradient_norm or None)


class Trail:
    """A record of digests of the trained weights after some steps, which an audit can compare with a replay.

    It covers the first epoch and the last one. The file is in the job's resume folder, so that an interrupted training
    continues with it.
    """

    def __init__(self, job: TrainingJob, model: acga.ACGA) -> None:
        self._job, self._model = job, model

    def step_done(self, at: TrainingProgress) -> None:
        """Report the progress of training, and record a digest of the weights after the steps in TRAIL_STEPS."""
        done = at.step + 1
        self._job.progress(at.epoch * at.steps + done, at.epochs * at.steps)
        if rank() == 0 and (done in TRAIL_STEPS or done == at.steps):
            epoch, noted = str(at.epoch), trail(self._job.resume)
            kept = {name: steps for name, steps in noted.items() if name in ("0", epoch)}
            of_epoch = kept.get(epoch, {}) | {str(done): weights_digest(self._model)}
            write_bytes(self._job.resume / TRAIL, json.dumps(kept | {epoch: of_epoch}).encode())


def trail(folder: Path) -> dict[str, dict[str, str]]:
    """Return the digests recorded in a training's folder: epoch (from 0) -> steps done -> digest of the weights."""
    path = folder / TRAIL
    return json.loads(path.read_bytes()) if path.exists() else {}


def replayed(job: TrainingJob, device: torch.device, epoch: int, steps: int, trained: Path) -> str:
    """Train some steps of an epoch in this process and return the digest of the weights.

    Training starts from the beginning for epoch 0, and for a later epoch from the training state that is stored in the
    folder of the trained model. Raises TrainingStateError.
    """
    samples = StoredSamples.of(job.inputs, job.records["stream"])
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
    """Signal that the requested number of steps is done."""


def weights_digest(model: acga.ACGA) -> str:
    """Return the SHA-256, in hexadecimal, of the trained weights in order of their names."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.trained_parameters()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Curves:
    """A writer of the losses and learning rates of epochs to TensorBoard event files.

    If an epoch is repeated after an interruption, its last values replace the earlier ones. The files are created when
    the first epoch is done.
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
            from torch.utils.tensorboard import SummaryWriter  # imported here because the import takes seconds

            self._writer = SummaryWriter(str(self._folder), purge_step=epoch)
        values = asdict(loss) | {"total": loss.total, "lr": lr}
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()
