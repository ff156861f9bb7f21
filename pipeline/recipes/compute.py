"""Torch, set up as the section [compute] says."""

from __future__ import annotations

import os
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
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with such a buffer
        torch.use_deterministic_algorithms(True, warn_only=True)
        # float32 means float32: TensorFloat-32 keeps 10 bits of the fraction
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return device
