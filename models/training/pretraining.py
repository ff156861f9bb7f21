"""Pretraining of the I3D trunk on the actor and action labels of the clips, for use without Kinetics weights.

A 1x1 convolution on the time mean of `mixed_4f` classifies the actor and the action in every cell of 16 x 16 pixels;
A2D's annotation files contain both labels. Where a data set has none, the cells of its masks are only told from the
background. The convolution is discarded afterwards.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Generator, Tensor, nn
from torch.nn import functional

from models.backbones.i3d import HEAD, I3D, to_unit_range
from models.training.sampling import prefetched, shuffled

ACTORS = 8  # 0 background, 1..7 the actors
UNKNOWN_ACTOR = -1  # an actor that the data set does not name
ACTIONS = 10  # 0 background or unknown, 1..9 the actions
COLOUR_LEVELS = 3  # levels of each of red, green and blue
COLOURS = COLOUR_LEVELS**3
CELL = 16  # pixels, the stride of mixed_4f

logger = logging.getLogger(__name__)


class ClipSizeMismatch(ValueError):
    """Error raised if the grid of labels differs from the grid of the clips' cells."""


class UnsupportedModality(ValueError):
    """Error raised if the I3D to be pretrained does not take RGB clips."""


@dataclass(frozen=True)
class PretrainingSettings:
    """The settings of pretraining; `warmup` is a number of steps, and `colour_weight` 0 omits the colour loss."""

    epochs: int
    batch: int
    lr: float
    warmup: int
    weight_decay: float
    foreground_weight: float
    colour_weight: float
    flip: bool
    seed: int


@dataclass(frozen=True)
class LabelledClips:
    """RGB clips and, per cell of 16 x 16 pixels, the actor (0: background, -1: one without a name) and the action (0:
    none or unknown)."""

    clips: UInt8[Tensor, "b t s s 3"]
    actors: Int64[Tensor, "b h w"]
    actions: Int64[Tensor, "b h w"]


@runtime_checkable
class LabelledClipSource(Protocol):
    """A source of labelled clips; `batch` may be called from another thread, one call at a time."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> LabelledClips:
        """Return the clips at these positions, in this order."""
        ...


@dataclass(frozen=True)
class PretrainingProgress:
    """The progress after one step; `epoch` and `step` count from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


def pretrain(
    i3d: I3D,
    source: LabelledClipSource,
    settings: PretrainingSettings,
    device: torch.device,
    progress: Callable[[PretrainingProgress], None] | None = None,
) -> tuple[float, ...]:
    """Train the trunk and `mixed_4f` in place and return the mean loss of each epoch; I3D is left in evaluation mode.

    The optimizer is AdamW with a linear warm-up and then a cosine decay of the learning rate to zero. On one machine
    the result depends only on the initial weights, the source and the settings. Raises ClipSizeMismatch and
    UnsupportedModality.
    """
    if i3d.modality != "rgb":
        raise UnsupportedModality(f"Pretraining reads RGB clips, this I3D takes {i3d.modality}. Pretrain an RGB one.")
    classifier = cell_classifier(i3d.channels[HEAD], Generator().manual_seed(settings.seed))
    i3d.to(device).to(memory_format=torch.channels_last_3d).train()
    classifier.to(device)
    network = [parameter for name, parameter in i3d.named_parameters() if trained(name)]
    parameters = network + list(classifier.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    steps = math.ceil(len(source) / settings.batch)
    losses = []
    for epoch in range(settings.epochs):
        total = 0.0
        for step, batch in enumerate(epoch_batches(source, settings, epoch)):
            rate = settings.lr * learning_rate_factor(epoch * steps + step, settings.epochs * steps, settings.warmup)
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = cell_loss(i3d, classifier, moved(batch, device), settings)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(batch.clips)
            if progress is not None:
                progress(PretrainingProgress(epoch, settings.epochs, step, steps, loss.item()))
        losses.append(total / len(source))
        logger.info("pretraining epoch %d of %d: loss %.4f", epoch + 1, settings.epochs, losses[-1])
    i3d.eval()
    return tuple(losses)


def epoch_batches(source: LabelledClipSource, settings: PretrainingSettings, epoch: int) -> Iterator[LabelledClips]:
    """Yield the batches of an epoch: every clip once, mirrored at random if `settings.flip` is set."""
    order = shuffled(len(source), settings.seed, epoch)
    wanted = [order[start : start + settings.batch] for start in range(0, len(order), settings.batch)]
    for step, batch in enumerate(prefetched(source.batch, wanted)):
        mirrored = flips(len(batch.clips), settings.seed, epoch, step)
        yield flipped(batch, mirrored) if settings.flip else batch


def cell_loss(
    i3d: I3D, classifier: nn.Conv2d, batch: LabelledClips, settings: PretrainingSettings
) -> Float[Tensor, ""]:
    """Return the sum of the cross entropies of actors, of actions (where known) and of colours (where an actor is).

    The loss of actors weights the foreground by `foreground_weight`, and the loss of colours by `colour_weight`. Raises
    ClipSizeMismatch.
    """
    clips = to_unit_range(batch.clips)
    maps = classifier(i3d.head(i3d.trunk(clips)).mean(2))
    if maps.shape[-2:] != batch.actors.shape[-2:]:
        raise ClipSizeMismatch(
            f"Pretraining labels of {tuple(batch.actors.shape[-2:])} cells, expected {tuple(maps.shape[-2:])} cells of "
            f"{CELL} pixels for clips of {tuple(clips.shape[-2:])} pixels. Make the labels at that size."
        )
    actors, actions, colours = maps.split([ACTORS, ACTIONS, COLOURS], dim=1)
    loss = actor_loss(actors, batch.actors, settings.foreground_weight)
    loss = loss + mean_where(functional.cross_entropy(actions, batch.actions, reduction="none"), batch.actions > 0)
    if settings.colour_weight:
        surprise = functional.cross_entropy(colours, colour_classes(clips), reduction="none")
        loss = loss + settings.colour_weight * mean_where(surprise, batch.actors != 0)
    return loss


def actor_loss(
    maps: Float[Tensor, "b actors h w"], actors: Int64[Tensor, "b h w"], foreground_weight: float
) -> Float[Tensor, ""]:
    """Return the mean cross entropy of the actors, in which a cell of an actor weighs `foreground_weight`.

    For a cell of an unknown actor, the probability is that of all actors together, so that it is only told from the
    background.
    """
    weight = torch.full((ACTORS,), foreground_weight, device=maps.device, dtype=maps.dtype)
    weight[0] = 1
    unknown = actors == UNKNOWN_ACTOR
    if not unknown.any():
        return functional.cross_entropy(maps, actors, weight=weight)
    logs = functional.log_softmax(maps, dim=1)
    named = functional.nll_loss(logs, actors.clamp(min=0), reduction="none")
    surprise = torch.where(unknown, -logs[:, 1:].logsumexp(1), named)
    weights = weight[actors.clamp(min=0)].where(~unknown, weight[1])
    return (weights * surprise).sum() / weights.sum()


def colour_classes(clips: Float[Tensor, "b 3 t s s"]) -> Int64[Tensor, "b h w"]:
    """Return the class of the mean colour of each cell of the labelled (middle) frame, with three levels per channel.

    A2D has no colour labels, but its sentences mention colours, which features that only distinguish actors and actions
    would lose.
    """
    middle = clips[:, :, clips.shape[2] // 2]
    cells = reduce(middle, "b c (h i) (w j) -> b c h w", "mean", i=CELL, j=CELL)
    red, green, blue = ((cells + 1) / 2 * COLOUR_LEVELS).long().clamp(0, COLOUR_LEVELS - 1).unbind(1)
    return (red * COLOUR_LEVELS + green) * COLOUR_LEVELS + blue


def mean_where(values: Float[Tensor, "b h w"], chosen: Bool[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Return the mean of the chosen values, or 0 if none is chosen."""
    weight = chosen.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1)


def cell_classifier(channels: int, generator: Generator) -> nn.Conv2d:
    """Return a 1x1 convolution from features to the logits of actors, actions and colours, in this order."""
    classifier = nn.Conv2d(channels, ACTORS + ACTIONS + COLOURS, 1)
    nn.init.normal_(classifier.weight, std=1 / math.sqrt(channels), generator=generator)
    if classifier.bias is not None:
        nn.init.zeros_(classifier.bias)
    return classifier


def learning_rate_factor(step: int, steps: int, warmup: int) -> float:
    """Return the factor of the learning rate at a step: a linear warm-up, then a half cosine down to zero."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def trained(name: str) -> bool:
    """Return whether pretraining updates the I3D parameter of this name: `mixed_4f` and all layers before it."""
    return not name.startswith(("mixed_5", "conv3d_0c"))


def flips(count: int, seed: int, epoch: int, step: int) -> tuple[bool, ...]:
    """Return for each clip of a batch whether it is mirrored, which depends only on the arguments."""
    bits = np.random.PCG64(np.random.SeedSequence([seed, epoch, step])).random_raw(count)
    return tuple(bool(word >> 63) for word in bits.tolist())


def flipped(batch: LabelledClips, mirrored: Sequence[bool]) -> LabelledClips:
    """Return the batch with the chosen clips and their labels mirrored left to right."""
    chosen = torch.tensor(list(mirrored), device=batch.clips.device)
    wide, flat = rearrange(chosen, "b -> b 1 1 1 1"), rearrange(chosen, "b -> b 1 1")
    return LabelledClips(
        torch.where(wide, batch.clips.flip(3), batch.clips),
        torch.where(flat, batch.actors.flip(2), batch.actors),
        torch.where(flat, batch.actions.flip(2), batch.actions),
    )


def moved(batch: LabelledClips, device: torch.device) -> LabelledClips:
    """Return the batch with its tensors moved to the device."""
    return LabelledClips(batch.clips.to(device), batch.actors.to(device), batch.actions.to(device))
