"""Training in several processes, as torchrun starts them; in a single process all of this does nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed


class OutOfStep(RuntimeError):
    """Processes of one training that do not stand at the same place."""


def world_size() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if started() else 1


def rank() -> int:
    """Return which of them this is, from 0."""
    return distributed.get_rank() if started() else 0


def started() -> bool:
    """Return whether processes train together."""
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def process_group(device: torch.device, timeout_seconds: float) -> Iterator[None]:
    """Join the processes that torchrun started (from its environment variables), and leave them at the end.

    gloo on CPUs, NCCL on GPUs, each process having chosen its own. Where a process dies, the others fail at once or
    after the timeout, and do not wait for ever.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    try:
        yield
    finally:
        distributed.destroy_process_group()


def all_reduce_sum(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the sum of all processes' tensors, on the CPU; it travels by way of the device."""
    if world_size() == 1:
        return tensor
    total = tensor.to(device, copy=True)
    distributed.all_reduce(total)
    return total.cpu()


def check_in_step(place: Sequence[int], device: torch.device) -> None:
    """Raise OutOfStep unless all processes are at the same place, some numbers of 0 or more."""
    if world_size() == 1:
        return
    mine = torch.tensor(list(place), dtype=torch.int64, device=device)
    found = [torch.empty_like(mine) for _ in range(world_size())]
    distributed.all_gather(found, mine)
    places = [tuple(other.tolist()) for other in found]
    if len(set(places)) > 1:
        raise OutOfStep(
            f"Processes stand at (epoch, step) {places}, expected one place. Give all of them the same training folder."
        )
