"""How ACGA is trained, and where a training stands: one file, replaced in one move, so that it is always whole.

`training.safetensors` holds weights, Adam's state and the best weights, and as JSON in its metadata settings, losses
and the step. A run that finds it goes on from there, bit for bit. The state before the last epoch that was begun stays
beside it as `last_epoch.safetensors`, so that somebody else can go on from there, too.
"""

import dataclasses
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from models.acga import ACGA
from models.files.weights import CheckpointError, read_tensors, write_tensors
from models.training.sampling import Sampling

STATE = "training.safetensors"
LAST_EPOCH = "last_epoch.safetensors"
STATE_KEY = "training"
WEIGHTS = "model."
BEST = "best."
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what torch.optim.Adam keeps for a parameter
WITHOUT_EFFECT = ("epochs", "checkpoint_every")  # on the numbers of an epoch
REMEDY = "Train in an empty folder, or restore the model and settings that it was made with."

Precision = Literal["float32", "bfloat16"]

logger = logging.getLogger(__name__)


class TrainingStateError(RuntimeError):
    """A training folder that cannot be resumed from."""


class InvalidSettings(ValueError):
    """Training settings that mean nothing."""


@dataclass(frozen=True)
class TrainingSettings:
    """How ACGA is trained. The authors': 9 epochs, batch 4, lr 5e-4, times 0.1 every 8 epochs, weight 1.5, "reference".

    They neither clip (`gradient_norm` None), accumulate (1) or flip, nor hold anything out (`validation` 0.0).
    `accumulate`: micro-batches of a step. Their gradients add up to that of the mean loss over the batch, but the batch
    norms of `mixed_4f` take their statistics from each one by itself.
    `precision`: bfloat16 means the network under autocast; parameters and losses are float32 in either case.
    `flip`: mirror every other clip, its masks and, in words, its sentences.
    `validation`: the share of the videos to hold out. The network ends up with the weights of the epoch that did best
    on them, and training ends after `patience` epochs that did not improve on it, or never if that is 0.
    `checkpoint_every`: the state is stored after so many steps of an epoch too, or only after epochs if it is 0.
    Raises InvalidSettings.
    """

    epochs: int
    batch: int
    lr: float
    lr_drop_every: int
    lr_drop: float
    foreground_weight: float
    sampling: Sampling
    gradient_norm: float | None
    accumulate: int
    precision: Precision
    flip: bool
    validation: float
    patience: int
    checkpoint_every: int
    seed: int

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise InvalidSettings(f"Training with accumulate = {self.accumulate}: expected 1 (none) or more.")
        if self.precision not in ("float32", "bfloat16"):
            raise InvalidSettings(f"Training with precision = {self.precision!r}: expected float32 or bfloat16.")
        if not 0 <= self.validation < 1:
            raise InvalidSettings(f"Training with validation = {self.validation}: expected a share of 0 to below 1.")
        if self.patience < 0 or self.checkpoint_every < 0:
            raise InvalidSettings("Training with a negative patience or checkpoint_every: expected 0 (never) or more.")
        if self.patience > 0 and self.validation == 0:
            raise InvalidSettings(
                f"Training with patience = {self.patience} and validation = 0: nothing to improve on. "
                "Hold out a share of the videos, or set patience to 0."
            )


@dataclass(frozen=True)
class EpochLoss:
    """Mean losses of the three responses over the samples of an epoch; training minimises their sum.

    `validation` is the sum on the samples held out, None where there are none.
    """

    small: float
    medium: float
    large: float
    validation: float | None

    @property
    def total(self) -> float:
        """The sum of the three."""
        return self.small + self.medium + self.large


@dataclass(frozen=True)
class TrainingState:
    """The losses of the epochs done, and of the next the steps done and the sums of the losses of their samples.

    `best` holds the trained weights after the epoch with the lowest validation loss.
    """

    losses: tuple[EpochLoss, ...]
    step: int
    sums: tuple[float, float, float]
    samples: int
    best: Mapping[str, Tensor]


START = TrainingState((), 0, (0.0, 0.0, 0.0), 0, {})


def store(
    model: ACGA, optimiser: torch.optim.Adam, settings: TrainingSettings, state: TrainingState, folder: Path
) -> None:
    """Write the state over the one before."""
    tensors = {f"{WEIGHTS}{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"{BEST}{name}": tensor for name, tensor in state.best.items()}
    for name, parameter in model.trained_parameters():
        for moment in MOMENTS:
            tensors[f"adam.{moment}.{name}"] = optimiser.state[parameter][moment]
    document = {
        "settings": comparable(settings),
        "losses": [dataclasses.asdict(loss) for loss in state.losses],
        "step": state.step,
        "sums": list(state.sums),
        "samples": state.samples,
    }
    write_tensors(folder / STATE, tensors, {STATE_KEY: json.dumps(document, sort_keys=True)})


def keep(folder: Path) -> None:
    """Let the state as it is stored now stay as the one before the last epoch, whatever is stored after it."""
    link = folder / f".{LAST_EPOCH}.part"
    link.unlink(missing_ok=True)
    os.link(folder / STATE, link)
    link.replace(folder / LAST_EPOCH)


def resume(model: ACGA, optimiser: torch.optim.Adam, settings: TrainingSettings, folder: Path) -> TrainingState:
    """Load weights and moments from the folder, if it has a state, and return it. Raises TrainingStateError."""
    path = folder / STATE
    if not path.exists():
        return START
    try:
        tensors, document = read_tensors(path, STATE_KEY)
        losses = tuple(EpochLoss(**loss) for loss in document["losses"])
        small, medium, large = document["sums"]
        best = {name.removeprefix(BEST): tensor for name, tensor in tensors.items() if name.startswith(BEST)}
        state = TrainingState(losses, document["step"], (small, medium, large), document["samples"], best)
        found, expected = document["settings"], comparable(settings)
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        raise TrainingStateError(f"Training state {path} is damaged: {error}. {REMEDY}") from error
    if found != expected:
        raise TrainingStateError(f"Training state {path} has settings {found}, expected {expected}. {REMEDY}")
    begun = len(losses) + (state.step > 0)
    if begun > settings.epochs:
        raise TrainingStateError(
            f"Training state {path} has {begun} epochs, expected {settings.epochs} or fewer. {REMEDY}"
        )
    try:
        model.load_state_dict({name: tensors[f"{WEIGHTS}{name}"] for name in model.state_dict()})
        for name, parameter in model.trained_parameters():
            adam = {moment: tensors[f"adam.{moment}.{name}"].to(parameter.device) for moment in MOMENTS}
            optimiser.state[parameter] = adam
    except (KeyError, RuntimeError) as error:
        raise TrainingStateError(f"Training state {path} is not of this model: {error}. {REMEDY}") from error
    logger.info("resuming after epoch %d of %d and step %d from %s", len(losses), settings.epochs, state.step, path)
    return state


def comparable(settings: TrainingSettings) -> dict[str, Any]:
    """Return the settings that a resumed run must share: all that the numbers of an epoch depend on."""
    return {name: value for name, value in dataclasses.asdict(settings).items() if name not in WITHOUT_EFFECT}


def best_epoch(losses: Sequence[EpochLoss]) -> int:
    """Return the first epoch with the lowest validation loss; what is not a number, or not there, is no improvement."""
    values = [loss.validation for loss in losses]
    ranks = [math.inf if value is None or math.isnan(value) else value for value in values]
    return ranks.index(min(ranks))


def is_over(losses: Sequence[EpochLoss], settings: TrainingSettings) -> bool:
    """Return whether all epochs are done, or so many without improvement that training stops early."""
    if len(losses) >= settings.epochs:
        return True
    return bool(losses) and 0 < settings.patience <= len(losses) - 1 - best_epoch(losses)


def trained_state(model: ACGA) -> dict[str, Tensor]:
    """Return copies, on the CPU, of all that training changes: I3D's head and what comes after it."""
    head = f"video.{model.video.head_name}."
    kept = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(head) or not name.startswith("video.")
    }
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in kept.items()}
