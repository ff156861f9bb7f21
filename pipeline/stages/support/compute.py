"""The setup of torch according to the section [compute]."""

from __future__ import annotations

import os

import torch

from pipeline.sections.compute import ComputeSection


class DeviceUnavailable(RuntimeError):
    """Error of a device that this machine does not have."""


def prepare(compute: ComputeSection) -> torch.device:
    """Set the threads and, on a GPU, deterministic algorithms for this process, and return the device.

    Raises `DeviceUnavailable` if the device does not exist; there is no fallback to another device.
    """
    device = torch.device(compute.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailable(
            f"compute.device = {compute.device!r}: this machine has {torch.cuda.device_count()} CUDA devices;"
            f" set compute.device=cpu or run where there is one"
        )
    torch.set_num_threads(compute.threads)
    if device.type == "cuda":  # on a CPU, the operations are deterministic anyway, and the switch takes seconds to load
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with such a buffer
        torch.use_deterministic_algorithms(True, warn_only=True)
        # compute in full float32: TensorFloat-32 keeps only 10 bits of the fraction
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return device
