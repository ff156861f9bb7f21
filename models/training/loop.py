"""The training loop of ACGA: the authors' loop, made reproducible and resumable, in one process or in several.

The processes of a process group (`models.training.distributed`) share every step: each takes some of its clips, and
together they compute the same update as a single process with the whole batch.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data.wording import counted
from models.acga import ACGA
from models.decoder import Responses
from models.losses import Targets, response_losses
from models.training import batch_norm
from models.training.augmentation import flipped, is_flipped
from models.training.distributed import all_reduce_sum, check_in_step, rank, world_size
from models.training.samples import Batch, SampleSource
from models.training.sampling import batches, held_out, prefetched, split, whole_clips
from models.training.state import (
    LAST_EPOCH,
    STATE,
    EpochLoss,
    InvalidSettings,
    Precision,
    TrainingSettings,
    TrainingState,
    TrainingStateError,
    best_epoch,
    is_over,
    keep,
    resume,
    store,
    trained_state,
)

__all__ = [
    "LAST_EPOCH",
    "STATE",
    "Batch",
    "EpochLoss",
    "InvalidSettings",
    "SampleSource",
    "TrainingProgress",
    "TrainingSettings",
    "TrainingStateError",
    "learning_rate",
    "train",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingProgress:
    """The progress after one step; `epoch` and `step` count from 0, and `loss` is the mean loss of the step."""

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
    epoch_done: Callable[[int, EpochLoss, float], None] | None = None,
) -> tuple[EpochLoss, ...]:
    """Train the model in place, resuming from the state in the folder if there is one; return the loss of each epoch.

    The backbone's head and everything after it are trained with Adam. The model is left on the device in evaluation
    mode. `epoch_done` receives an epoch, its losses and its learning rate. `progress` and `epoch_done` are called
    before the state is stored, and called again if a run is killed in between. Only rank 0 calls them and writes the
    folder, which all processes read. The state before the last epoch stays in the folder unless that is the first one.
    Raises TrainingStateError if the folder's state is damaged or belongs to another training.
    """
    training = Training(model.to(device), source, settings, device)
    folder.mkdir(parents=True, exist_ok=True)
    state = resume(model, training.optimiser, settings, folder)
    check_in_step((len(state.losses), state.step), device)
    while not is_over(state.losses, settings):
        epoch, lr = len(state.losses), learning_rate(settings, len(state.losses))
        if epoch > 0 and state.step == 0 and rank() == 0:
            keep(folder)
        state = train_epoch(training, state, lr, folder, progress if rank() == 0 else None)
        if rank() == 0:
            if epoch_done is not None:
                epoch_done(epoch, state.losses[-1], lr)
            store(model, training.optimiser, settings, state, folder)
            logger.info("epoch %d of %d: loss %.4f", epoch + 1, settings.epochs, state.losses[-1].total)
    check_in_step((len(state.losses), state.step), device)  # wait until the folder is written
    if state.best:
        model.load_state_dict({**model.state_dict(), **state.best})
    model.eval()
    return state.losses


@dataclass(frozen=True)
class Portion:
    """The share that one process has of a micro-batch of a step; the whole step has `total` samples.

    If its share is empty, `counts` is False, and the process runs on a sample of another process without contributing.
    """

    epoch: int
    step: int
    indices: tuple[int, ...]
    counts: bool
    total: int


class Training:
    """The state of one process during training: network, samples, settings, optimizer and device."""

    def __init__(self, model: ACGA, source: SampleSource, settings: TrainingSettings, device: torch.device) -> None:
        self.model, self.source, self.settings, self.device = model, source, settings, device
        clips, videos = source.clips, source.videos
        places = {index: place for place, clip in enumerate(clips) for index in clip}
        self.clip = [places[index] for index in range(len(source))]
        held = held_out(videos, settings.validation, settings.seed)
        self.clips = [clip for clip in clips if videos[clip[0]] not in held]
        self.held_clips = [clip for clip in clips if videos[clip[0]] in held]
        parameters = [parameter for _, parameter in model.trained_parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=settings.lr, fused=True)  # fused: ten times faster on a CPU
        self.losses = Losses(model, settings.foreground_weight, settings.precision)
        self.shared: nn.Module = self.losses if world_size() == 1 else shared(self.losses, device)

    def steps(self, epoch: int) -> tuple[tuple[Portion, ...], ...]:
        """Return the portions of this process for each step of an epoch; all processes have equally many per step."""
        settings = self.settings
        order = batches(settings.sampling, self.clips, settings.batch, settings.seed, epoch)
        return tuple(self.portions(epoch, step, indices) for step, indices in enumerate(order))

    def portions(self, epoch: int, step: int, indices: tuple[int, ...]) -> tuple[Portion, ...]:
        """Return the portions of this process in one step, one per micro-batch."""
        found = []
        for micro in filter(None, split(indices, self.clip, self.settings.accumulate)):
            share = split(micro, self.clip, world_size())[rank()]
            found.append(Portion(epoch, step, share or micro[:1], bool(share), len(indices)))
        return tuple(found)

    def load(self, portion: Portion) -> Batch:
        """Return the samples of a portion, with some clips mirrored if `settings.flip` is set."""
        batch, seed = self.source.batch(portion.indices), self.settings.seed
        if not self.settings.flip:
            return batch
        clips = [self.clip[index] for index in portion.indices]
        return flipped(batch, [is_flipped(seed, portion.epoch, portion.step, clip) for clip in clips])


class Losses(nn.Module):
    """A module that computes the losses of the network for a batch."""

    def __init__(self, model: ACGA, foreground_weight: float, precision: Precision) -> None:
        super().__init__()
        self.model = model
        self.foreground_weight = foreground_weight
        self.precision = precision

    def forward(self, batch: Batch) -> Float[Tensor, "3"]:
        """Return the mean losses of the three responses, in the dtype of the weights."""
        weight = self.model.text.convolution.weight
        device, own = weight.device, weight.dtype
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            features, words = batch.features.to(device, own), batch.words.to(device, own)
            found = self.model(features, words, batch.clip.to(device))
        responses = Responses(found.small.to(own), found.medium.to(own), found.large.to(own))
        targets = Targets(batch.small.to(device), batch.medium.to(device), batch.large.to(device))
        return response_losses(responses, targets, self.foreground_weight)


def shared(losses: Losses, device: torch.device) -> DistributedDataParallel:
    """Return the losses wrapped in DistributedDataParallel, with batch statistics over all processes."""
    video = losses.model.video
    batch_norm.convert(video.get_submodule(video.head_name))
    losses.requires_grad_(False)  # the trunk does not run, so it has no gradients
    for _, parameter in losses.model.trained_parameters():
        parameter.requires_grad_(True)
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(losses, device_ids=devices)


def train_epoch(
    training: Training,
    state: TrainingState,
    lr: float,
    folder: Path,
    progress: Callable[[TrainingProgress], None] | None,
) -> TrainingState:
    """Train for the remaining steps of an epoch and return the state at its end. Raises TrainingStateError."""
    epoch, settings = len(state.losses), training.settings
    for group in training.optimiser.param_groups:
        group["lr"] = lr
    training.model.train()
    steps = training.steps(epoch)
    if state.step >= len(steps):
        raise TrainingStateError(
            f"Training state of epoch {epoch} is at step {state.step}, but the samples make"
            f" {counted(len(steps), 'step')}. "
            "Train in an empty folder, or restore the samples that it was made with."
        )
    left = steps[state.step :]
    loaded = prefetched(training.load, [portion for portions in left for portion in portions])
    for portions in left:
        sums, samples = training_step(training, portions, loaded), portions[0].total
        small, medium, large = (torch.tensor(state.sums, dtype=torch.float64) + sums).tolist()
        state = replace(state, step=state.step + 1, sums=(small, medium, large), samples=state.samples + samples)
        if progress is not None:
            loss = sums.sum().item() / samples
            progress(TrainingProgress(epoch, settings.epochs, state.step - 1, len(steps), loss))
        every = settings.checkpoint_every
        if every and state.step % every == 0 and state.step < len(steps) and rank() == 0:
            store(training.model, training.optimiser, settings, state, folder)
    small, medium, large = (total / state.samples for total in state.sums)
    losses = (*state.losses, EpochLoss(small, medium, large, validation_loss(training)))
    best = trained_state(training.model) if training.held_clips and best_epoch(losses) == epoch else state.best
    return TrainingState(losses, 0, (0.0, 0.0, 0.0), 0, best)


def training_step(training: Training, portions: tuple[Portion, ...], loaded: Iterator[Batch]) -> Float64[Tensor, "3"]:
    """Take one optimizer step and return the sums of its samples' three losses over all processes, on the CPU."""
    training.optimiser.zero_grad()
    sums = torch.zeros(3, dtype=torch.float64)
    for place, portion in enumerate(portions, start=1):
        samples = len(portion.indices) if portion.counts else 0
        batch_norm.set_counts(training.model, portion.counts)
        with gradient_sync(training.shared, place == len(portions)):
            losses = training.shared(next(loaded))
            # DistributedDataParallel averages over processes, which may have different numbers of samples.
            (losses.sum() * (world_size() * samples / portion.total)).backward()
        sums += losses.detach().cpu().double() * samples
    if training.settings.gradient_norm is not None:
        parameters = [weight for _, weight in training.model.trained_parameters()]
        torch.nn.utils.clip_grad_norm_(parameters, training.settings.gradient_norm)
    training.optimiser.step()
    return all_reduce_sum(sums, training.device)


def gradient_sync(module: nn.Module, wanted: bool) -> AbstractContextManager[None]:
    """Return a context in which a backward pass synchronises gradients (`wanted`), or only accumulates them locally."""
    return nullcontext() if wanted or not isinstance(module, DistributedDataParallel) else module.no_sync()


def validation_loss(training: Training) -> float | None:
    """Return the mean over the held-out samples of the sum of the three losses, or None without such samples."""
    if not training.held_clips:
        return None
    training.model.eval()
    wanted = whole_clips(training.held_clips, training.settings.batch)
    shares = [split(indices, training.clip, world_size())[rank()] for indices in wanted]
    total = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for batch in prefetched(training.source.batch, [share for share in shares if share]):
            loss = training.losses(batch).sum().item()
            total += torch.tensor([loss * len(batch.words), len(batch.words)], dtype=torch.float64)
    loss_sum, samples = all_reduce_sum(total, training.device).tolist()
    return float(loss_sum) / int(samples)


def learning_rate(settings: TrainingSettings, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 0."""
    return settings.lr * settings.lr_drop ** (epoch // settings.lr_drop_every)
