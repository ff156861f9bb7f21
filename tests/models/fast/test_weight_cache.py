"""What is kept is kept as long as it is true, and no longer."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from models.fast.weight_cache import WeightCache


class Doubled:
    """Twice a weight, through `WeightCache`; counts how often it is computed."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.kept: WeightCache[Tensor] = WeightCache()
        self.computed = 0

    def compute(self) -> Tensor:
        self.computed += 1
        return 2 * self.weight

    def get(self, setting: str = "") -> Tensor:
        return self.kept.get((self.weight,), setting, self.compute)


def test_it_is_computed_once():
    doubled = Doubled(torch.ones(3))
    with torch.no_grad():
        assert torch.equal(doubled.get(), doubled.get())
    with torch.inference_mode():
        doubled.get()
    assert doubled.computed == 1


def change_in_place(doubled: Doubled) -> None:
    doubled.weight.mul_(3)


def change_behind_autograds_back(doubled: Doubled) -> None:
    doubled.weight.data.mul_(3)


def replace(doubled: Doubled) -> None:
    doubled.weight = 3 * doubled.weight


def cast(doubled: Doubled) -> None:
    doubled.weight = 3 * doubled.weight.double()


@pytest.mark.parametrize("change", [change_in_place, change_behind_autograds_back, replace, cast])
def test_it_follows_the_weights(change):
    doubled = Doubled(torch.ones(3))
    with torch.no_grad():
        doubled.get()
        change(doubled)
        assert torch.equal(doubled.get(), 2 * doubled.weight)
        assert doubled.get().dtype == doubled.weight.dtype and doubled.get()[0] == 6


def test_it_follows_the_setting():
    doubled = Doubled(torch.ones(3))
    with torch.no_grad():
        for setting in ("a", "b", "b"):
            doubled.get(setting)
    assert doubled.computed == 2


def test_where_gradients_are_wanted_nothing_is_kept():
    doubled = Doubled(torch.ones(3, requires_grad=True))
    with torch.no_grad():
        assert not doubled.get().requires_grad
    doubled.get().sum().backward()
    assert torch.equal(doubled.weight.grad, torch.full((3,), 2.0))
    assert doubled.kept.latest is None


def test_what_is_computed_in_inference_is_no_inference_tensor():
    doubled = Doubled(torch.ones(3))
    with torch.inference_mode():
        assert not doubled.get().is_inference()


def test_copies_keep_nothing():
    kept: WeightCache[int] = WeightCache()
    with torch.no_grad():
        kept.get((torch.ones(1),), "", lambda: 1)
    for twin in (copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert twin.latest is None
