"""Functions for training in several processes started by torchrun; without a process group they have no effect."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed


class OutOfStep(RuntimeError):
    """Error raised if the processes of one training are not at the same epoch and step."""


def world_size() -> int:
    """Return the number of processes in the process group, or 1 without one."""
    return distributed.get_world_size() if started() else 1


def rank() -> int:
    """Return the rank of this process in the process group, or 0 without one."""
    return distributed.get_rank() if started() else 0


def started() -> bool:
    """Return whether this process has joined a process group."""
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def process_group(device: torch.device, timeout_seconds: float) -> Iterator[None]:
    """Join the process group that torchrun describes in its environment variables, and leave it at the end.

    The backend is gloo on CPUs and NCCL on GPUs, where each process must have selected its own GPU. If a process dies,
    the others fail at once or after the timeout.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    try:
        yield
    finally:
        distributed.destroy_process_group()


def all_reduce_sum(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the sum of a tensor over all processes, on the CPU; the all-reduce takes place on `device`."""
    if world_size() == 1:
        return tensor
    total = tensor.to(device, copy=True)
    distributed.all_reduce(total)
    return total.cpu()


def check_in_step(place: Sequence[int], device: torch.device) -> None:
    """Raise OutOfStep unless `place` (epoch and step) is the same in all processes."""
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
