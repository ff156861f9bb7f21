"""What can be known before the first task: whether files, device, memory and disk fit what the missing stages need.

Of files of weights only names and shapes are read, and of word vectors only the header. Memory and disk are estimates:
a batch is refused if its input and its first or last activations alone exceed the memory, a plan if it would write
twice the space that is free.
"""

from __future__ import annotations

import logging
import multiprocessing
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from extractors.cores import usable_memory
from pipeline import interrupts
from pipeline.config import Config
from pipeline.engine.stage import Stage
from pipeline.runs.estimate import estimate
from pipeline.runs.plan import planned
from pipeline.stages.support.orphans import end_with_run

log = logging.getLogger(__name__)

FLOAT, GIB = 4, 2**30
READING_TRUNK = frozenset({"VisualFeatures", "TrainedModel"})
HEAVY = READING_TRUNK | {"PretrainedTrunk", "Predictions"}


class Unfit(ValueError):
    """Error of a run that cannot end well; `findings` has one line for each thing to mend."""

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("; ".join(findings))
        self.findings = tuple(findings)


@dataclass(frozen=True)
class Looked:
    """What was found: lines that tell users what was recognised, and the errors."""

    said: tuple[str, ...]
    errors: tuple[str, ...]


def check(config: Config, tasks: Sequence[Stage], troubles: Sequence[str] = ()) -> None:
    """Look at all that the missing tasks need, and log what was recognised. Raises `Unfit` with all findings.

    `troubles` are what is known of the devices already. The forkserver must have been prepared, as files of weights are
    looked at in a process of its own.
    """
    missing = [task for task in tasks if not task.complete()]
    if not missing:
        return
    found = look(config, frozenset(task.stage for task in missing), troubles)
    for line in found.said:
        log.info("%s", line)
    errors = [*found.errors, *_disk(tasks)]
    if errors:
        raise Unfit(errors)


def look(config: Config, stages: frozenset[str], troubles: Sequence[str] = ()) -> Looked:
    """Look at the files that these stages would read, at the device, and at the memory that they need.

    `troubles` are errors of the devices that are known already; then the device itself is left alone.
    """
    found = Looked((), ())
    on_gpu = config.compute.device != "cpu" and bool(stages & HEAVY) and not troubles
    if config.files or on_gpu:
        interrupts.start_forkserver()
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(1, context, initializer=end_with_run) as pool:
            found = pool.submit(_look, config, stages, on_gpu).result()
    errors = [*troubles, *found.errors, *_memory(config, stages)]
    return Looked(found.said, tuple(dict.fromkeys(errors)))


def _look(config: Config, stages: frozenset[str], on_gpu: bool) -> Looked:
    """Look at files and device in a process that may load torch."""
    said: list[str] = []
    errors: list[str] = []
    looks: list[Callable[[Config], list[str]]] = []
    if "TextFeatures" in stages:
        looks.append(_vectors)
    if stages & READING_TRUNK:
        looks.append(_weights)
    if "TrainedModel" in stages:
        looks.append(_checkpoint)
    if on_gpu:
        looks.append(_device)
    for each in looks:
        try:
            said += each(config)
        except (OSError, ValueError, RuntimeError) as error:
            errors.append(" ".join(str(error).split()))
    return Looked(tuple(said), tuple(errors))


def _vectors(config: Config) -> list[str]:
    from extractors.text.sentences import check_vectors

    text = config.text
    check_vectors(text.vectors, text.dim, text.layer)
    return []


def _weights(config: Config) -> list[str]:
    from models.files.published import identity
    from pipeline.stages.support.weights import from_file

    said = []
    for stream in config.streams:
        key, weights = config.visual.weights_of(stream)
        if key in config.files and not config.model.checkpoint:
            trunk = from_file(config.visual, stream, Path(weights), "meta")
            said.append(f"{key}: {trunk.weights}; {identity(Path(weights))}")
    return said


def _checkpoint(config: Config) -> list[str]:
    if not config.model.checkpoint:
        return []
    from models.files import checkpoints
    from pipeline.stages.support.weights import EPS
    from pipeline.stages.training.model import check as check_stream

    path, visual = Path(config.model.checkpoint), config.visual
    model = checkpoints.load_any(path, EPS[visual.batch_norm], "meta")
    check_stream(model, config.streams[0], path)
    sizes = model.sizes
    if sizes.word_dim != config.text.dim:
        raise Unfit([f"model.checkpoint: {path} reads word vectors of {sizes.word_dim} values; set text.dim to that"])
    if sizes.video.name != visual.backbone:
        raise Unfit([f"model.checkpoint: {path} holds {sizes.video.name}, but visual.backbone is {visual.backbone!r}"])
    return [f"model.checkpoint: {sizes.video.name} {sizes.video.modality}, word vectors of {sizes.word_dim} values"]


def _device(config: Config) -> list[str]:
    import torch

    from pipeline.stages.support.compute import prepare

    device = prepare(config.compute)
    lower = "bfloat16" in (config.visual.compute, config.training.precision)
    if lower and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise Unfit([f"{name} has no bfloat16: set visual.compute and training.precision to float32"])
    return []


def _memory(config: Config, stages: frozenset[str]) -> list[str]:
    """Return an error for each stage of which a batch cannot be held, by a bound from below."""
    there, errors = usable_memory(psutil.virtual_memory().total), []
    for stage, (needs, keys) in _needs(config).items():
        if stage in stages and needs > there:
            errors.append(
                f"{stage} would hold at least {needs / GIB:,.0f} GiB, but this machine has {there / GIB:,.0f} GiB;"
                f" lower one of {keys}"
            )
    return errors


def _needs(config: Config) -> dict[str, tuple[int, str]]:
    """Return the least bytes that a batch of each stage takes, and the keys that they depend on, with their values."""
    frames, visual, training = config.frames, config.visual, config.training
    pixels, size = frames.size**2, f"frames.size = {frames.size}"
    length = f"frames.length = {frames.length}"
    clip = frames.length * pixels * 3
    if visual.backbone == "i3d":  # the clip, and the output of the first layer at half of its resolution
        batch = visual.batch * (clip * FLOAT + round(64 * visual.width) * frames.length * pixels // 8 * FLOAT)
    else:
        batch = visual.batch * visual.frames * (3 * pixels + 64 * pixels // 4) * FLOAT
    # The last head's hidden maps and their gradients, at the resolution of the clip
    share = -(-training.batch // (training.accumulate * training.processes))
    head = config.model.widths[2] * pixels * FLOAT
    return {
        "Frames": (clip, f"{length}, {size}"),
        "VisualFeatures": (batch, f"visual.batch = {visual.batch}, {length}, {size}"),
        "TrainedModel": (
            0 if config.model.checkpoint else 2 * share * head,
            f"training.batch = {training.batch} (or raise training.accumulate), {size}",
        ),
        "Predictions": (head, size),
    }


def _disk(tasks: Sequence[Stage]) -> list[str]:
    """Return an error if the plan would write twice the free space; log it if it would write more than is free."""
    plan = estimate(planned(list(tasks)), 1, 1, on_gpu=False)
    free = shutil.disk_usage(tasks[0].store).free
    if plan.bytes <= max(free, GIB):
        return []
    line = (
        f"the plan writes about {plan.bytes / GIB:,.1f} GiB, and the disk of {tasks[0].store} has {free / GIB:,.1f} GiB"
        " free; give another --store, or free space (acga gc)"
    )
    if plan.bytes <= 2 * free:
        log.warning("%s", line)
        return []
    return [line]
