"""Processes that end with the one that started them: a killed run leaves nothing behind."""

from __future__ import annotations

import ctypes
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(by: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the one that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)
