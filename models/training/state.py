"""The settings of training, and its state: one file that is replaced atomically.

`training.safetensors` holds the weights, Adam's state and the best weights, and in its metadata (as JSON) the settings,
the losses and the step. A run that finds it resumes from it, bit for bit. The state before the last epoch that was
begun stays beside it as `last_epoch.safetensors`, from which that epoch can be repeated.
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

from data.wording import counted
from models.acga import ACGA
from models.files.tensors import CheckpointError, read_tensors, write_tensors
from models.training.sampling import Sampling

STATE = "training.safetensors"
LAST_EPOCH = "last_epoch.safetensors"
STATE_KEY = "training"
WEIGHTS = "model."
BEST = "best."
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # the state of torch.optim.Adam for a parameter
WITHOUT_EFFECT = ("epochs", "checkpoint_every")  # settings that do not change the results of an epoch
REMEDY = "Train in an empty folder, or restore the model and settings that it was made with."

Precision = Literal["float32", "bfloat16"]

logger = logging.getLogger(__name__)


class TrainingStateError(RuntimeError):
    """Error raised if training cannot be resumed from a folder."""


class InvalidSettings(ValueError):
    """Error raised if a training setting is out of range or contradicts another one."""


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of training. Raises InvalidSettings.

    The authors use 9 epochs, batch 4, lr 5e-4 times 0.1 every 8 epochs, foreground weight 1.5, sampling "reference",
    `accumulate` 1, and neither gradient clipping (`gradient_norm` None) nor flips nor validation.
    `accumulate`: number of micro-batches of a step. Their gradients add up to the gradient of the mean loss over the
    batch, but the batch norms of `mixed_4f` compute their statistics per micro-batch.
    `precision`: "bfloat16" runs the network under autocast; parameters and losses are float32 in either case.
    `flip`: mirror each clip with probability 1/2, with its masks, and swap left and right in its sentences.
    `validation`: share of the videos to hold out. The network is left with the weights of the epoch with the lowest
    loss on them, and training stops after `patience` epochs without improvement (0: never).
    `checkpoint_every`: number of steps after which the state is also stored within an epoch (0: never).
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
    """The mean losses of the three responses over the samples of an epoch; training minimises their sum.

    `validation` is their sum on the held-out samples, or None without such samples.
    """

    small: float
    medium: float
    large: float
    validation: float | None

    @property
    def total(self) -> float:
        """Return the sum of the small, medium and large loss."""
        return self.small + self.medium + self.large


@dataclass(frozen=True)
class TrainingState:
    """The progress of a training: the losses of the finished epochs, and the position within the current epoch.

    `step` is the number of its finished steps, `samples` the number of their samples, and `sums` are the sums of the
    samples' three losses. `best` holds the trained weights after the epoch with the lowest validation loss.
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
    """Write the state of model, optimizer and training to the folder, replacing the previous state atomically."""
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
    """Keep the stored state, by a hard link, as the state before the last epoch; later states do not overwrite it."""
    link = folder / f".{LAST_EPOCH}.part"
    link.unlink(missing_ok=True)
    os.link(folder / STATE, link)
    link.replace(folder / LAST_EPOCH)


def resume(model: ACGA, optimiser: torch.optim.Adam, settings: TrainingSettings, folder: Path) -> TrainingState:
    """Load the weights and Adam's state from the folder and return the training state, or `START` if it has none.

    Raises TrainingStateError if the state is damaged or has other settings, more epochs or another model.
    """
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
            f"Training state {path} has {counted(begun, 'epoch')}, expected {settings.epochs} or fewer. {REMEDY}"
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
    """Return the settings that a resumed run must share: those on which the results of an epoch depend."""
    return {name: value for name, value in dataclasses.asdict(settings).items() if name not in WITHOUT_EFFECT}


def best_epoch(losses: Sequence[EpochLoss]) -> int:
    """Return the first epoch with the lowest validation loss; NaN and None count as infinity."""
    values = [loss.validation for loss in losses]
    ranks = [math.inf if value is None or math.isnan(value) else value for value in values]
    return ranks.index(min(ranks))


def is_over(losses: Sequence[EpochLoss], settings: TrainingSettings) -> bool:
    """Return whether all epochs are done, or `patience` epochs have passed without improvement."""
    if len(losses) >= settings.epochs:
        return True
    return bool(losses) and 0 < settings.patience <= len(losses) - 1 - best_epoch(losses)


def trained_state(model: ACGA) -> dict[str, Tensor]:
    """Return copies on the CPU of all tensors that training changes: the backbone's head and everything after it."""
    head = f"video.{model.video.head_name}."
    kept = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(head) or not name.startswith("video.")
    }
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in kept.items()}
