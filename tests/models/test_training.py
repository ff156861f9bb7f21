import dataclasses
import functools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Generator

from models import acga
from models.acga import ACGA
from models.i3d import I3D
from models.initialisation import seed_i3d
from models.training import (
    STATE,
    Batch,
    EpochLoss,
    TrainingSettings,
    TrainingStateError,
    learning_rate,
    train,
)

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
    seed=4,
)


class Halves:
    """Clips of noise; on each the first sentence means the left half and the second one the right half."""

    def __init__(self, clips: int) -> None:
        generator = Generator().manual_seed(1)
        self.features = torch.randn(clips, 33, 4, 2, 2, generator=generator).relu()
        self.words = torch.randn(2, 3, 6, generator=generator)

    @property
    def clips(self) -> Sequence[Sequence[int]]:
        return [(2 * clip, 2 * clip + 1) for clip in range(len(self.features))]

    def __len__(self) -> int:
        return 2 * len(self.features)

    def batch(self, indices: Sequence[int]) -> Batch:
        wanted = sorted({index // 2 for index in indices})
        side = torch.tensor([index % 2 for index in indices])
        masks = []
        for size in (2, 8, 32):
            right = torch.arange(size) >= size // 2
            masks.append((right == side.bool().reshape(-1, 1, 1)).expand(-1, size, -1).to(torch.uint8))
        clip = torch.tensor([wanted.index(index // 2) for index in indices])
        return Batch(self.features[wanted], clip, self.words[side], *masks)


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
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import importlib.util, pathlib, torch\n"
        f"spec = importlib.util.spec_from_file_location('first', {__file__!r})\n"
        "first = importlib.util.module_from_spec(spec); spec.loader.exec_module(first)\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        f"first.trained(pathlib.Path({str(tmp_path / 'parts')!r}), epochs=1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "parts" / STATE).read_bytes() != (tmp_path / "whole" / STATE).read_bytes()
    resumed, resumed_losses = trained(tmp_path / "parts")
    assert resumed_losses == losses
    assert same(whole, resumed)
    # Weights, Adam's moments and step counts, settings and losses: all of the state.
    assert (tmp_path / "parts" / STATE).read_bytes() == (tmp_path / "whole" / STATE).read_bytes()


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
