"""Processes that end with the one that started them: a killed run leaves nothing behind."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from multiprocessing import forkserver
from typing import Any, cast

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_run() -> None:
    """The same for a task and the run: between them is the server that forks tasks.

    It lives while anyone holds the other end of a pipe, which is handed to every task, too; this one lets go of it.
    """
    server = cast(Any, forkserver)._forkserver
    if multiprocessing.parent_process() is not None and server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
    end_with_parent()
