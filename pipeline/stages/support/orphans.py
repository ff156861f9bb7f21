"""Functions that end a process together with its parent, so that a killed run leaves no processes behind."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from multiprocessing import forkserver
from typing import Any, cast

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Make the kernel kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_run() -> None:
    """Make this task end when the run ends.

    The task's parent is the forkserver, which lives as long as any process holds the other end of its pipe. Every task
    inherits that end, so this function closes it.
    """
    server = cast(Any, forkserver)._forkserver
    if multiprocessing.parent_process() is not None and server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
    end_with_parent()
