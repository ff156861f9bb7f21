"""A cache of values that depend only on weights, kept from one forward pass to the next."""

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


class WeightCache(Generic[Value]):
    """A cache of one value, valid until the weights change; nothing is cached while gradients are enabled.

    A change is detected by a tensor's version counter, or by its sum if autograd did not see it (`.data`). Copies and
    pickles of the cache are empty.
    """

    def __init__(self) -> None:
        self.latest: tuple[Hashable, Value] | None = None

    def get(self, weights: Sequence[Tensor], setting: Hashable, compute: Callable[[], Value]) -> Value:
        """Return the cached value, or the result of `compute` if the weights or the setting have changed."""
        if torch.is_grad_enabled():
            self.latest = None
            return compute()
        key = (setting, fingerprint(weights))
        latest = self.latest
        if latest is not None and latest[0] == key:
            return latest[1]
        self.latest = None  # freed before the next value is computed, to save memory
        with torch.inference_mode(False), torch.no_grad():
            value = compute()
        self.latest = (key, value)
        return value

    def __deepcopy__(self, memo: object) -> "WeightCache[Value]":
        return WeightCache()

    def __reduce__(self) -> tuple[type["WeightCache[Value]"], tuple[()]]:
        return WeightCache, ()


def fingerprint(weights: Sequence[Tensor]) -> Hashable:
    """Return a value that changes if a weight is replaced, moved, cast or modified."""
    sums = torch.stack([weight.detach().sum().double() for weight in weights]).tolist()
    return tuple(
        (weight.data_ptr(), str(weight.device), weight.dtype, -1 if weight.is_inference() else weight._version, total)
        for weight, total in zip(weights, sums, strict=True)
    )
