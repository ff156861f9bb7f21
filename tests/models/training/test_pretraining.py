import dataclasses
import functools
from collections.abc import Sequence

import pytest
import torch
from torch import Generator

from models.backbones.i3d import I3D
from models.backbones.initialisation import seed_i3d
from models.training.pretraining import (
    ClipSizeMismatch,
    LabelledClips,
    PretrainingSettings,
    UnsupportedModality,
    flipped,
    flips,
    learning_rate_factor,
    pretrain,
)

CPU = torch.device("cpu")
SETTINGS = PretrainingSettings(
    epochs=1,
    batch=4,
    lr=5e-3,
    warmup=2,
    weight_decay=1e-4,
    foreground_weight=1.0,
    colour_weight=1.0,
    flip=True,
    seed=3,
)


class Squares:
    """One bright cell on noise in every clip: actor 1 if it stands still, actor 2 if it flickers; actions likewise."""

    def __init__(self, clips: int) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return self.clips

    def batch(self, indices: Sequence[int]) -> LabelledClips:
        clips = torch.randint(0, 60, (len(indices), 16, 32, 32, 3), generator=Generator().manual_seed(sum(indices)))
        labels = torch.zeros(len(indices), 2, 2, dtype=torch.int64)
        for place, index in enumerate(indices):
            row, column, kind = index // 2 % 2, index // 4 % 2, 1 + index % 2
            clips[place, ::kind, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 190
            labels[place, row, column] = kind
        return LabelledClips(clips.to(torch.uint8), labels, labels)


@functools.cache
def weights(modality: str) -> dict[str, torch.Tensor]:
    i3d = I3D(modality, eps=1e-3, width=1 / 16)
    seed_i3d(i3d, 0)
    return i3d.state_dict()


def network(modality: str = "rgb") -> I3D:
    i3d = I3D(modality, eps=1e-3, width=1 / 16)
    i3d.load_state_dict(weights(modality))
    return i3d


def test_the_learning_rate_warms_up_and_falls_to_zero():
    factors = [learning_rate_factor(step, 12, 2) for step in range(12)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert factors[7] == pytest.approx(0.5)
    assert learning_rate_factor(12, 12, 2) == pytest.approx(0)
    assert factors[2:] == sorted(factors[2:], reverse=True)


def test_clips_and_labels_are_mirrored_together():
    batch = Squares(8).batch([0, 1])
    found = flipped(batch, [False, True])
    assert torch.equal(found.clips[0], batch.clips[0]) and torch.equal(found.actors[0], batch.actors[0])
    assert torch.equal(found.clips[1, :, :, 0], batch.clips[1, :, :, -1])
    assert found.actors[1].tolist() == [[0, 2], [0, 0]] and batch.actors[1].tolist() == [[2, 0], [0, 0]]
    assert torch.equal(found.actions, found.actors)


def test_about_half_of_the_clips_are_mirrored():
    drawn = [flip for step in range(100) for flip in flips(10, 0, 0, step)]
    assert 450 < sum(drawn) < 550
    assert flips(10, 0, 0, 5) == flips(10, 0, 0, 5)


def test_the_labels_are_learnt_and_the_head_with_them():
    i3d = network()
    before = {name: tensor.clone() for name, tensor in i3d.state_dict().items()}
    losses = pretrain(i3d, Squares(16), dataclasses.replace(SETTINGS, epochs=6), CPU)
    assert len(losses) == 6 and losses[-1] < 0.7 * losses[0]
    assert not i3d.training
    after = i3d.state_dict()
    assert not torch.equal(after["mixed_4f.branch_0.conv3d.weight"], before["mixed_4f.branch_0.conv3d.weight"])
    assert torch.equal(after["mixed_5b.branch_0.conv3d.weight"], before["mixed_5b.branch_0.conv3d.weight"])


def test_pretraining_is_a_pure_function_of_its_settings():
    first, second, other = network(), network(), network()
    losses = pretrain(first, Squares(8), SETTINGS, CPU)
    assert pretrain(second, Squares(8), SETTINGS, CPU) == losses
    pretrain(other, Squares(8), dataclasses.replace(SETTINGS, seed=4), CPU)
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(one, another) for one, another in pairs)
    assert not torch.equal(first.mixed_4f.branch_0.conv3d.weight, other.mixed_4f.branch_0.conv3d.weight)


def test_progress_is_told_after_every_step():
    told = []
    losses = pretrain(network(), Squares(8), SETTINGS, CPU, told.append)
    assert [(step.epoch, step.step, step.steps) for step in told] == [(0, 0, 2), (0, 1, 2)]
    assert losses[0] == pytest.approx((told[0].loss + told[1].loss) / 2)


def test_labels_of_another_grid_are_refused():
    class Coarse(Squares):
        def batch(self, indices: Sequence[int]) -> LabelledClips:
            labels = torch.zeros(len(indices), 1, 1, dtype=torch.int64)
            return LabelledClips(super().batch(indices).clips, labels, labels)

    with pytest.raises(ClipSizeMismatch, match=r"\(1, 1\) cells, expected \(2, 2\)"):
        pretrain(network(), Coarse(4), SETTINGS, CPU)


def test_flow_cannot_be_pretrained_on_colours():
    with pytest.raises(UnsupportedModality, match="flow"):
        pretrain(network(modality="flow"), Squares(4), SETTINGS, CPU)
