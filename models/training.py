"""Training ACGA: the authors' loop, made repeatable and resumable.

After every epoch `training.safetensors` in the folder holds weights and Adam's state and, as JSON in its metadata,
settings and losses. It is replaced in one move, so it is always whole; a run that finds it goes on from there, bit for
bit.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from models.acga import ACGA
from models.checkpoints import CheckpointError, read_tensors, write_tensors
from models.losses import Targets, response_losses
from models.order import Sampling, batches, prefetched

STATE = "training.safetensors"
STATE_KEY = "training"
WEIGHTS = "model."
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what torch.optim.Adam keeps for a parameter
REMEDY = "Train in an empty folder, or restore the model and settings that it was made with."

logger = logging.getLogger(__name__)


class TrainingStateError(RuntimeError):
    """A training folder that cannot be resumed from."""


@dataclass(frozen=True)
class TrainingSettings:
    """How ACGA is trained. The authors': 9 epochs, batch 4, lr 5e-4, times 0.1 every 8 epochs, weight 1.5, "reference".

    `gradient_norm` is the norm that gradients are clipped to, None for no clipping as in the authors' code.
    """

    epochs: int
    batch: int
    lr: float
    lr_drop_every: int
    lr_drop: float
    foreground_weight: float
    sampling: Sampling
    gradient_norm: float | None
    seed: int


@dataclass(frozen=True)
class Batch:
    """Sentences, the masks they mean, and the trunk's features of their clips; `clip` is each one's position there."""

    features: Float[Tensor, "c f t h w"]
    clip: Int64[Tensor, " b"]
    words: Float[Tensor, "b l d"]
    small: UInt8[Tensor, "b h w"]
    medium: UInt8[Tensor, "b 4*h 4*w"]
    large: UInt8[Tensor, "b 16*h 16*w"]


@runtime_checkable
class SampleSource(Protocol):
    """Where samples come from; `batch` may be called from another thread, one call at a time."""

    @property
    def clips(self) -> Sequence[Sequence[int]]:
        """The positions of each clip's samples; every sample belongs to one clip."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return the samples at these positions, in this order."""
        ...


@dataclass(frozen=True)
class EpochLoss:
    """Mean losses of the three responses over the samples of an epoch; training minimises their sum."""

    small: float
    medium: float
    large: float

    @property
    def total(self) -> float:
        """The sum of the three."""
        return self.small + self.medium + self.large


@dataclass(frozen=True)
class TrainingProgress:
    """One step done: epoch and step count from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


def train(
    model: ACGA,
    source: SampleSource,
    settings: TrainingSettings,
    device: torch.device,
    folder: Path,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> tuple[EpochLoss, ...]:
    """Train the model in place, from the last epoch in the folder if there is one, and return the loss of each epoch.

    I3D's head and everything after it is trained, by Adam. The model is left on the device, in evaluation mode. Raises
    TrainingStateError where the folder's state is damaged or of another training.
    """
    model.to(device)
    parameters = [parameter for _, parameter in model.trained_parameters()]
    optimiser = torch.optim.Adam(parameters, lr=settings.lr, fused=True)  # ten times faster on a CPU
    folder.mkdir(parents=True, exist_ok=True)
    losses = resume(model, optimiser, settings, folder)
    for epoch in range(len(losses), settings.epochs):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(settings, epoch)
        losses.append(train_epoch(model, optimiser, source, settings, device, epoch, progress))
        store(model, optimiser, settings, losses, folder)
        logger.info("epoch %d of %d: loss %.4f", epoch + 1, settings.epochs, losses[-1].total)
    model.eval()
    return tuple(losses)


def train_epoch(
    model: ACGA,
    optimiser: torch.optim.Adam,
    source: SampleSource,
    settings: TrainingSettings,
    device: torch.device,
    epoch: int,
    progress: Callable[[TrainingProgress], None] | None,
) -> EpochLoss:
    """Take the steps of one epoch and return its mean losses."""
    model.train()
    order = batches(settings.sampling, source.clips, settings.batch, settings.seed, epoch)
    total, samples = torch.zeros(3, dtype=torch.float64), 0
    for step, batch in enumerate(prefetched(source.batch, order)):
        losses = training_step(model, optimiser, batch, settings, device)
        total += losses * len(batch.words)
        samples += len(batch.words)
        if progress is not None:
            progress(TrainingProgress(epoch, settings.epochs, step, len(order), losses.sum().item()))
    small, medium, large = (total / samples).tolist()
    return EpochLoss(small, medium, large)


def training_step(
    model: ACGA, optimiser: torch.optim.Adam, batch: Batch, settings: TrainingSettings, device: torch.device
) -> Float[Tensor, "3"]:
    """Take one step and return its losses, in float64 on the CPU."""
    responses = model(batch.features.to(device).float(), batch.words.to(device).float(), batch.clip.to(device))
    targets = Targets(batch.small.to(device), batch.medium.to(device), batch.large.to(device))
    losses = response_losses(responses, targets, settings.foreground_weight)
    optimiser.zero_grad()
    losses.sum().backward()
    if settings.gradient_norm is not None:
        torch.nn.utils.clip_grad_norm_([weight for _, weight in model.trained_parameters()], settings.gradient_norm)
    optimiser.step()
    return losses.detach().cpu().double()


def learning_rate(settings: TrainingSettings, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 0."""
    return settings.lr * settings.lr_drop ** (epoch // settings.lr_drop_every)


def store(
    model: ACGA,
    optimiser: torch.optim.Adam,
    settings: TrainingSettings,
    losses: Sequence[EpochLoss],
    folder: Path,
) -> None:
    """Write the state after the last epoch over that of the epoch before."""
    tensors = {f"{WEIGHTS}{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.trained_parameters():
        for moment in MOMENTS:
            tensors[f"adam.{moment}.{name}"] = optimiser.state[parameter][moment]
    state = {"settings": comparable(settings), "losses": [dataclasses.asdict(loss) for loss in losses]}
    write_tensors(folder / STATE, tensors, {STATE_KEY: json.dumps(state, sort_keys=True)})


def resume(model: ACGA, optimiser: torch.optim.Adam, settings: TrainingSettings, folder: Path) -> list[EpochLoss]:
    """Load the folder's state, if it has one, and return the losses of the epochs done. Raises TrainingStateError."""
    path = folder / STATE
    if not path.exists():
        return []
    try:
        tensors, state = read_tensors(path, STATE_KEY)
        losses = [EpochLoss(**loss) for loss in state["losses"]]
        found, expected = state["settings"], comparable(settings)
    except (CheckpointError, KeyError, TypeError) as error:
        raise TrainingStateError(f"Training state {path} is damaged: {error}. {REMEDY}") from error
    if found != expected:
        raise TrainingStateError(f"Training state {path} has settings {found}, expected {expected}. {REMEDY}")
    if len(losses) > settings.epochs:
        done = f"{len(losses)} epochs, expected {settings.epochs} or fewer"
        raise TrainingStateError(f"Training state {path} has {done}. {REMEDY}")
    try:
        model.load_state_dict({name: tensors[f"{WEIGHTS}{name}"] for name in model.state_dict()})
        for name, parameter in model.trained_parameters():
            adam = {moment: tensors[f"adam.{moment}.{name}"].to(parameter.device) for moment in MOMENTS}
            optimiser.state[parameter] = adam
    except (KeyError, RuntimeError) as error:
        raise TrainingStateError(f"Training state {path} is not of this model: {error}. {REMEDY}") from error
    logger.info("resuming after epoch %d of %d from %s", len(losses), settings.epochs, path)
    return losses


def comparable(settings: TrainingSettings) -> dict[str, Any]:
    """Return the settings that a resumed run must share: all but the number of epochs."""
    values = dataclasses.asdict(settings)
    del values["epochs"]
    return values
