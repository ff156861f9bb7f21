"""Torch, set up as the section [compute] says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


class DeviceUnavailable(RuntimeError):
    """A device that this machine does not have."""


def prepare(compute: Mapping[str, Any]) -> torch.device:
    """The device to compute on; sets threads and, on a GPU, deterministic algorithms for this process.

    Raises `DeviceUnavailable`: nothing falls back to another device.
    """
    device = torch.device(compute["device"])
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailable(
            f"compute.device = {compute['device']!r}: this machine has {torch.cuda.device_count()} CUDA devices;"
            f" set compute.device=cpu or run where there is one"
        )
    torch.set_num_threads(compute["threads"])
    if device.type == "cuda":  # on a CPU what we use is deterministic as it is, and the switch takes seconds to load
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device
