import dataclasses
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Generator

from models import acga
from models.acga import ACGA
from models.backbones.i3d import I3D
from models.backbones.initialisation import seed_i3d
from models.files.tensors import read_tensors
from models.losses import Targets, response_losses
from models.training.augmentation import MissingMirroredWords
from models.training.loop import (
    LAST_EPOCH,
    STATE,
    Batch,
    EpochLoss,
    InvalidSettings,
    TrainingSettings,
    TrainingStateError,
    learning_rate,
    train,
)
from models.training.sampling import held_out
from models.training.state import STATE_KEY, is_over

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(
    epochs=2,
    batch=3,
    lr=2e-3,
    lr_drop_every=1,
    lr_drop=0.5,
    foreground_weight=1.5,
    sampling="clips",
    gradient_norm=None,
    accumulate=1,
    precision="float32",
    flip=False,
    validation=0.0,
    patience=0,
    checkpoint_every=0,
    seed=4,
)


class Halves:
    """Clips of noise; on each the first sentence means the left half and the second one the right half.

    So each sentence is the other one mirrored. The positions that were asked for are kept.
    """

    def __init__(self, clips: int) -> None:
        generator = Generator().manual_seed(1)
        self.features = torch.randn(clips, 33, 4, 2, 2, generator=generator).relu()
        self.words = torch.randn(2, 3, 6, generator=generator)
        self.asked: list[tuple[int, ...]] = []

    @property
    def videos(self) -> Sequence[str]:
        return [f"video {index // 2}" for index in range(len(self))]

    @property
    def clips(self) -> Sequence[Sequence[int]]:
        return [(2 * clip, 2 * clip + 1) for clip in range(len(self.features))]

    def __len__(self) -> int:
        return 2 * len(self.features)

    def batch(self, indices: Sequence[int]) -> Batch:
        self.asked.append(tuple(indices))
        wanted = sorted({index // 2 for index in indices})
        side = torch.tensor([index % 2 for index in indices])
        masks = []
        for size in (2, 8, 32):
            right = torch.arange(size) >= size // 2
            masks.append((right == side.bool().reshape(-1, 1, 1)).expand(-1, size, -1).to(torch.uint8))
        clip = torch.tensor([wanted.index(index // 2) for index in indices])
        return Batch(self.features[wanted], clip, self.words[side], *masks, self.words[1 - side])


@functools.cache
def trunk_weights() -> dict[str, torch.Tensor]:
    i3d = I3D("rgb", eps=1e-3, width=1 / 16)
    seed_i3d(i3d, 0)
    return i3d.state_dict()


def model() -> ACGA:
    i3d = I3D("rgb", eps=1e-3, width=1 / 16)
    i3d.load_state_dict(trunk_weights())
    return acga.build(i3d, 6, (5, 4), (6, 5, 4), True, "scaled", Generator().manual_seed(2))


def trained(folder: Path, **changes: object) -> tuple[ACGA, tuple[EpochLoss, ...]]:
    network = model()
    losses = train(network, Halves(4), dataclasses.replace(SETTINGS, **changes), CPU, folder)
    return network, losses


def elsewhere(statements: str) -> subprocess.CompletedProcess[str]:
    """Run statements in a new process that knows this module as `first`."""
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import importlib.util, os, pathlib, signal, torch\n"
        f"spec = importlib.util.spec_from_file_location('first', {__file__!r})\n"
        "first = importlib.util.module_from_spec(spec); sys.modules['first'] = first; spec.loader.exec_module(first)\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
    )
    return subprocess.run([sys.executable, "-c", program + statements], capture_output=True, text=True)


def same(first: ACGA, second: ACGA) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def test_the_learning_rate_drops_from_the_ninth_epoch_on():
    settings = dataclasses.replace(SETTINGS, lr=5e-4, lr_drop_every=8, lr_drop=0.1)
    assert [learning_rate(settings, epoch) for epoch in (0, 7, 8, 16)] == pytest.approx([5e-4, 5e-4, 5e-5, 5e-6])


def test_a_sentence_is_learnt(tmp_path):
    _, losses = trained(tmp_path, epochs=15, lr=1e-2, lr_drop=1.0)
    assert len(losses) == 15
    assert losses[-1].total < 0.5 * losses[0].total


def test_two_epochs_in_one_go_are_one_a_new_process_and_one_more(tmp_path):
    whole, losses = trained(tmp_path / "whole")
    done = elsewhere(f"first.trained(pathlib.Path({str(tmp_path / 'parts')!r}), epochs=1)")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "parts" / STATE).read_bytes() != (tmp_path / "whole" / STATE).read_bytes()
    resumed, resumed_losses = trained(tmp_path / "parts")
    assert resumed_losses == losses
    assert same(whole, resumed)
    # Weights, Adam's moments and step counts, settings and losses: all of the state.
    assert (tmp_path / "parts" / STATE).read_bytes() == (tmp_path / "whole" / STATE).read_bytes()
    assert (tmp_path / "parts" / LAST_EPOCH).read_bytes() == (tmp_path / "whole" / LAST_EPOCH).read_bytes()


def test_from_the_state_before_the_last_epoch_training_comes_to_the_same_end(tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=3)
    whole = model()
    losses = train(whole, Halves(4), settings, CPU, tmp_path / "whole")
    assert len(read_tensors(tmp_path / "whole" / LAST_EPOCH, STATE_KEY)[1]["losses"]) == 2
    (tmp_path / "again").mkdir()
    shutil.copy(tmp_path / "whole" / LAST_EPOCH, tmp_path / "again" / STATE)
    again, told = model(), []
    assert train(again, Halves(4), settings, CPU, tmp_path / "again", told.append) == losses
    assert [at.epoch for at in told] == [2, 2]
    assert same(whole, again)


def test_a_single_epoch_leaves_no_state_before_it(tmp_path):
    trained(tmp_path, epochs=1)
    assert not (tmp_path / LAST_EPOCH).exists()


def test_a_run_killed_between_two_epochs_keeps_the_state_before_the_last_one(tmp_path):
    trained(tmp_path / "whole")
    trained(tmp_path / "parts", epochs=1)  # as a kill right after the first epoch leaves it
    trained(tmp_path / "parts")
    assert (tmp_path / "parts" / LAST_EPOCH).read_bytes() == (tmp_path / "whole" / LAST_EPOCH).read_bytes()


def test_a_finished_training_is_loaded_and_not_repeated(tmp_path):
    network, losses = trained(tmp_path)
    before = (tmp_path / STATE).read_bytes()
    again, found = trained(tmp_path)
    assert found == losses and same(network, again) and not again.training
    assert (tmp_path / STATE).read_bytes() == before


@pytest.mark.parametrize("sampling", ["epoch", "reference", "clips"])
def test_training_is_a_pure_function_of_its_settings(tmp_path, sampling):
    first, losses = trained(tmp_path / "first", epochs=1, sampling=sampling)
    second, found = trained(tmp_path / "second", epochs=1, sampling=sampling)
    other, _ = trained(tmp_path / "other", epochs=1, sampling=sampling, seed=5)
    assert found == losses and same(first, second) and not same(first, other)


def test_the_frozen_trunk_stays_as_it_was(tmp_path):
    before = model().video.state_dict()
    after = trained(tmp_path, epochs=1)[0].video.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith("mixed_4f.") for name in changed)
    assert any(name.endswith("conv3d.weight") for name in changed)
    assert any(name.endswith("running_mean") for name in changed)


def test_gradients_are_clipped_to_a_norm(tmp_path):
    free, _ = trained(tmp_path / "free", epochs=1)
    clipped, _ = trained(tmp_path / "clipped", epochs=1, gradient_norm=1e-3)
    assert not same(free, clipped)


def test_progress_is_told_after_every_step(tmp_path):
    told = []
    losses = train(model(), Halves(4), SETTINGS, CPU, tmp_path, told.append)
    assert [(step.epoch, step.step, step.steps) for step in told] == [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2)]
    # Two batches of two clips with two sentences each weigh the same.
    assert losses[0].total == pytest.approx((told[0].loss + told[1].loss) / 2, rel=1e-5)


def test_other_settings_are_refused(tmp_path):
    trained(tmp_path, epochs=1)
    with pytest.raises(TrainingStateError, match=r"'lr': 0.002.*'lr': 0.5"):
        trained(tmp_path, lr=0.5)


def test_fewer_epochs_than_were_done_are_refused(tmp_path):
    trained(tmp_path)
    with pytest.raises(TrainingStateError, match="2 epochs, expected 1 or fewer"):
        trained(tmp_path, epochs=1)


def test_a_damaged_state_is_refused(tmp_path):
    trained(tmp_path, epochs=1)
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:1000])
    with pytest.raises(TrainingStateError, match="damaged"):
        trained(tmp_path)


def test_the_state_of_another_network_is_refused(tmp_path):
    trained(tmp_path, epochs=1)
    i3d = I3D("rgb", eps=1e-3, width=1 / 16)
    other = acga.build(i3d, 6, (5, 3), (6, 5, 4), True, "scaled", Generator().manual_seed(2))
    with pytest.raises(TrainingStateError, match="not of this model"):
        train(other, Halves(4), SETTINGS, CPU, tmp_path)


# All that a step can depend on.
EVERYTHING = {"accumulate": 2, "flip": True, "validation": 0.3, "patience": 5, "gradient_norm": 0.5, "epochs": 2}


def killed_at(epoch: int, step: int, folder: str) -> None:
    """Train until the end of a step, and die."""

    def progress(at) -> None:
        if (at.epoch, at.step) == (epoch, step):
            os.kill(os.getpid(), signal.SIGKILL)

    settings = dataclasses.replace(SETTINGS, **EVERYTHING, checkpoint_every=2)
    train(model(), Halves(9), settings, CPU, Path(folder), progress)


def test_a_run_killed_within_an_epoch_goes_on_from_its_last_checkpoint_bit_for_bit(tmp_path):
    settings = dataclasses.replace(SETTINGS, **EVERYTHING)
    whole = model()
    losses = train(whole, Halves(9), settings, CPU, tmp_path / "whole")
    done = elsewhere(f"first.killed_at(1, 2, {str(tmp_path / 'parts')!r})")
    assert done.returncode == -signal.SIGKILL, done.stderr
    document = read_tensors(tmp_path / "parts" / STATE, STATE_KEY)[1]
    assert len(document["losses"]) == 1 and document["step"] == 2 and document["samples"] == 8
    resumed, told = model(), []
    assert train(resumed, Halves(9), settings, CPU, tmp_path / "parts", told.append) == losses
    assert [(at.epoch, at.step, at.steps) for at in told] == [(1, 2, 3)]
    assert same(whole, resumed)
    # Weights, best weights, Adam's moments and step counts, settings and losses: all of the state.
    assert (tmp_path / "parts" / STATE).read_bytes() == (tmp_path / "whole" / STATE).read_bytes()


def test_a_step_that_the_samples_do_not_have_is_refused(tmp_path):
    settings = dataclasses.replace(SETTINGS, checkpoint_every=2)
    with pytest.raises(ZeroDivisionError):
        train(model(), Halves(6), settings, CPU, tmp_path, lambda at: 1 // (2 - at.step))
    with pytest.raises(TrainingStateError, match="at step 2, but the samples make 2 steps"):
        train(model(), Halves(4), settings, CPU, tmp_path)


def test_micro_batches_add_up_to_the_batch(tmp_path):
    # With equal clips every micro-batch has the statistics of the batch, and only running ones tell them apart.
    networks = []
    for accumulate in (1, 3):
        source, network = Halves(4), model().double()
        source.features[:] = source.features[0]
        settings = dataclasses.replace(SETTINGS, sampling="epoch", batch=5, accumulate=accumulate)
        losses = train(network, source, settings, CPU, tmp_path / str(accumulate))
        networks.append((network.state_dict(), torch.tensor([loss.total for loss in losses], dtype=torch.float64)))
    (whole, losses), (parts, found) = networks
    torch.testing.assert_close(found, losses, rtol=0, atol=1e-9)
    for name, tensor in whole.items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-9, msg=name)
    counter = "video.mixed_4f.branch_0.batch3d.num_batches_tracked"
    assert (int(whole[counter]), int(parts[counter])) == (4, 12)


def test_gradients_are_no_longer_than_the_norm(tmp_path):
    # With one step Adam's first moment is a tenth of the gradient.
    norms = []
    for gradient_norm in (None, 0.01):
        folder = tmp_path / str(gradient_norm)
        trained(folder, epochs=1, batch=8, gradient_norm=gradient_norm)
        tensors = read_tensors(folder / STATE, STATE_KEY)[0]
        moments = [tensor.flatten() for name, tensor in tensors.items() if name.startswith("adam.exp_avg.")]
        norms.append(10 * torch.cat(moments).norm().item())
    assert norms[0] > 0.05 and norms[1] == pytest.approx(0.01, rel=1e-3)


def test_mirrored_sentences_teach_the_same(tmp_path):
    plain, _ = trained(tmp_path / "plain", epochs=1)
    network = model()
    losses = train(
        network, Halves(4), dataclasses.replace(SETTINGS, epochs=15, lr=1e-2, lr_drop=1.0, flip=True), CPU, tmp_path
    )
    assert losses[-1].total < 0.5 * losses[0].total
    assert not same(plain, trained(tmp_path / "flipped", epochs=1, flip=True)[0])


class OneSided(Halves):
    """Samples whose words are not there mirrored."""

    def batch(self, indices: Sequence[int]) -> Batch:
        return dataclasses.replace(super().batch(indices), mirrored_words=None)


def test_mirroring_needs_mirrored_words(tmp_path):
    with pytest.raises(MissingMirroredWords):
        train(model(), OneSided(4), dataclasses.replace(SETTINGS, flip=True), CPU, tmp_path)


def test_bfloat16_computes_alike_and_keeps_float32_weights(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        exact, losses = trained(tmp_path / "exact", epochs=1)
        rounded, found = trained(tmp_path / "rounded", epochs=1, precision="bfloat16")
    finally:
        torch.set_num_threads(threads)
    assert found[0].total == pytest.approx(losses[0].total, rel=0.02) and found != losses
    assert all(weight.dtype == torch.float32 for weight in rounded.parameters())
    assert not same(exact, rounded)


def validated(network: ACGA, source: Halves, positions: list[int]) -> float:
    batch = source.batch(positions)
    with torch.no_grad():
        responses = network(batch.features, batch.words, batch.clip)
    return response_losses(responses, Targets(batch.small, batch.medium, batch.large), 1.5).sum().item()


def test_the_best_weights_on_the_videos_held_out_are_kept(tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=3, lr=0.1, lr_drop=1.0, validation=0.3)  # it goes up and down
    source, network, told = Halves(6), model(), []
    losses = train(network, source, settings, CPU, tmp_path, epoch_done=lambda *row: told.append(row))
    held = held_out(source.videos, 0.3, settings.seed)
    positions = [index for index, video in enumerate(source.videos) if video in held]
    assert len(positions) == 4
    # An epoch asks for every other sample once, and then for those held out.
    epoch = source.asked[: len(source.asked) // 3]
    assert sorted(sum(epoch[:-1], ())) == [index for index in range(12) if index not in positions]
    assert list(epoch[-1]) == positions
    values = [loss.validation for loss in losses]
    assert values.index(min(values)) == 1  # else the best are the last
    assert not network.training
    assert validated(network, source, positions) == pytest.approx(min(values), rel=1e-5)
    assert told == [(epoch, loss, 0.1) for epoch, loss in enumerate(losses)]
    again = model()
    assert train(again, source, settings, CPU, tmp_path) == losses and same(network, again)
    # With patience the same epochs come, up to the first that ends it.
    patient = train(model(), Halves(6), dataclasses.replace(settings, patience=1), CPU, tmp_path / "patient")
    assert patient == losses[: len(patient)]
    assert len(patient) == 1 + next(place for place in range(1, 3) if values[place] >= min(values[:place]))


def test_training_stops_after_epochs_that_did_not_improve():
    settings = dataclasses.replace(SETTINGS, epochs=9, validation=0.5, patience=2)
    losses = [EpochLoss(1.0, 1.0, 1.0, value) for value in (3.0, 2.0, 2.5, 1.5, 1.5, float("nan"), 1.0)]
    assert [is_over(losses[:count], settings) for count in range(8)] == [*[False] * 6, True, False]
    assert not is_over(losses[:6], dataclasses.replace(settings, patience=0))
    assert is_over(losses, dataclasses.replace(settings, epochs=7))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 0}, "accumulate = 0"),
        ({"precision": "float16"}, "'float16'"),
        ({"validation": 1.0}, "validation = 1.0"),
        ({"patience": 2}, "nothing to improve on"),
        ({"checkpoint_every": -1}, "negative"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, message):
    with pytest.raises((InvalidSettings, TypeError), match=message):
        dataclasses.replace(SETTINGS, **changes)
