"""Whether a small miniature is trained_state on a device, and whether training there resumes bit by bit."""

import copy
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from drawn_miniature import WORD_DIM, DrawnMiniature
from gpu_parity import Finding
from torch import Generator, Tensor

from models import acga
from models.backbones.i3d import I3D
from models.backbones.initialisation import seed_i3d
from models.files.tensors import read_tensors
from models.training.loop import STATE, EpochLoss, TrainingProgress, TrainingSettings, train
from models.training.state import STATE_KEY, Precision

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
SETTINGS = TrainingSettings(
    epochs=1,
    batch=8,
    lr=2.5e-3,
    lr_drop_every=1,
    lr_drop=1.0,
    foreground_weight=1.5,
    sampling="clips",
    gradient_norm=None,
    accumulate=1,
    precision="float32",
    flip=False,
    validation=0.0,
    patience=0,
    checkpoint_every=0,
    seed=0,
)


class Stopped(Exception):
    """Training was stopped on purpose."""


@dataclass(frozen=True)
class DataSize:
    """How large the miniature is, and the share of I3D's channels in the trunk."""

    clips: int
    pixels: int
    trunk_width: float


FULL = DataSize(160, 128, 1 / 4)
TINY = DataSize(16, 48, 1 / 16)


def training(size: DataSize, device: torch.device) -> Iterator[Finding]:
    """Train an epoch in both precisions, each in one go and with a stop half way."""
    i3d = I3D("rgb", 1e-5, size.trunk_width)
    seed_i3d(i3d, 0)
    source = DrawnMiniature(size.clips, size.pixels, i3d, device)
    yield Finding(f"{len(source)} sentences on {size.clips} clips, features of {tuple(source.features.shape[1:])}")
    courses = []
    for precision in PRECISIONS:
        with deterministic(), tempfile.TemporaryDirectory() as scratch:
            folders = (Path(scratch) / "one go", Path(scratch) / "resumed")
            begun = time.perf_counter()
            course: list[float] = []
            in_one_go = trained(i3d, source, precision, device, folders[0], course)
            yield falling(precision, course, time.perf_counter() - begun)
            again: list[float] = []  # as many steps as in one go, if none is taken twice
            resumed = trained(i3d, source, precision, device, folders[1], again, stop=len(course) // 2)
            yield same_state(precision, folders, (in_one_go, course) == (resumed, again))
        courses.append(course)
    by = courses[1][-1] - courses[0][-1]
    yield Finding(f"last loss in bfloat16 less that in float32: {by:+.1e}", courses[0] != courses[1])


@contextmanager
def deterministic() -> Iterator[None]:
    """Make operations raise an error where they are not deterministic."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def trained(
    i3d: I3D,
    source: DrawnMiniature,
    precision: Precision,
    device: torch.device,
    folder: Path,
    course: list[float],
    stop: int = 0,
) -> tuple[EpochLoss, ...]:
    """Train a new network for an epoch, stopping after so many steps and going on anew; `course` gets their losses."""
    settings = dataclasses.replace(SETTINGS, precision=precision, checkpoint_every=1 if stop else 0)

    def progress(at: TrainingProgress) -> None:
        if stop and len(course) == stop and not stopped:  # in the step after: its state is not stored
            stopped.append(at)
            raise Stopped
        course.append(at.loss)

    stopped: list[TrainingProgress] = []
    for _ in range(2 if stop else 1):
        generator = Generator().manual_seed(0)
        model = acga.build(copy.deepcopy(i3d), WORD_DIM, (16, 4), (64, 16, 4), True, "scaled", generator)
        try:
            return train(model, source, settings, device, folder, progress)
        except Stopped:
            continue
    raise Stopped


def falling(precision: str, course: list[float], seconds: float) -> Finding:
    """Whether the loss falls: the mean of the last quarter of the steps against that of the first one."""
    quarter = max(1, len(course) // 4)
    first, last = sum(course[:quarter]) / quarter, sum(course[-quarter:]) / quarter
    text = f"{precision}: {len(course)} steps in {seconds:.1f} s, loss from {first:.3f} to {last:.3f}"
    return Finding(text, last < first)


def same_state(precision: str, folders: tuple[Path, Path], same_losses: bool) -> Finding:
    """Whether two training folders hold the same weights and optimiser states, bit by bit."""
    (one, _), (other, _) = (read_tensors(folder / STATE, STATE_KEY) for folder in folders)
    differing = sorted(name for name in one.keys() | other.keys() if not same_bits(one.get(name), other.get(name)))
    text = f"{precision}, stopped half way and resumed: {len(differing)} of {len(one)} tensors differ"
    text += "" if same_losses else "; the losses differ"
    return Finding(f"{text}{''.join(f', {name}' for name in differing[:3])}", same_losses and not differing)


def same_bits(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors are equal; none is equal to nothing."""
    return one is not None and other is not None and torch.equal(one, other)
