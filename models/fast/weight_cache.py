"""What depends on weights alone, kept from one evaluation to the next."""

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


class WeightCache(Generic[Value]):
    """One value, kept until the weights that it was computed from change; nothing is kept where gradients are wanted.

    A change shows in a tensor's version, or in its sum where it was made behind autograd's back (`.data`). A copy of a
    network keeps nothing at first.
    """

    def __init__(self) -> None:
        self.latest: tuple[Hashable, Value] | None = None

    def get(self, weights: Sequence[Tensor], setting: Hashable, compute: Callable[[], Value]) -> Value:
        """Return what `compute` returns for these weights and this setting, computed now or before."""
        if torch.is_grad_enabled():
            self.latest = None
            return compute()
        key = (setting, fingerprint(weights))
        latest = self.latest
        if latest is not None and latest[0] == key:
            return latest[1]
        self.latest = None  # before the next one is made, for the sake of memory
        with torch.inference_mode(False), torch.no_grad():
            value = compute()
        self.latest = (key, value)
        return value

    def __deepcopy__(self, memo: object) -> "WeightCache[Value]":
        return WeightCache()

    def __reduce__(self) -> tuple[type["WeightCache[Value]"], tuple[()]]:
        return WeightCache, ()


def fingerprint(weights: Sequence[Tensor]) -> Hashable:
    """Return what changes when a weight is replaced, moved, cast or changed."""
    sums = torch.stack([weight.detach().sum().double() for weight in weights]).tolist()
    return tuple(
        (weight.data_ptr(), str(weight.device), weight.dtype, -1 if weight.is_inference() else weight._version, total)
        for weight, total in zip(weights, sums, strict=True)
    )
