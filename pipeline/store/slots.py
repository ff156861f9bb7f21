"""The slots of this host, one of which a task that computes with torch holds while it runs.

A slot is a device ("cuda:0") or, on CPUs, as many cores as compute.threads ("cpu:0"). All runs on a host share its
slots: a slot is a lock file in the host's folder for temporary files, so that the kernel frees it when its holder dies.

A run tells its tasks the slots by an environment variable (`offer`); a task takes what it needs (`taken`) and sees no
other GPU. A task that needs several slots takes them all at once, and waits in a queue until so many are free, so that
tasks neither block each other nor starve.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from extractors.cores import usable_cores
from pipeline.store import locks

OFFERED = "ACGA_SLOTS"
PRETENDED = "ACGA_PRETENDED_DEVICES"  # tests: a number of devices that compute on the CPU
VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICE_FILES = Path("/dev")
SECONDS_BETWEEN_TRIES = 0.05


class ImpossibleDevices(ValueError):
    """Error of devices that do not exist or do not fit compute.device; the message says what to give."""


class UnsafeFolder(RuntimeError):
    """Error of a folder for locks that another user could replace by links to this user's files."""


def find(devices: str, device: str, threads: int) -> tuple[str, ...]:
    """Return the slots of this host for the option --devices and the config keys compute.device and compute.threads.

    `devices` is "auto" (every GPU if compute.device is a GPU, else the cores), "cpu", or a list such as
    "cuda:0,cuda:1", which counts the GPUs that this process sees. Raises `ImpossibleDevices`.
    """
    on_gpu = device.startswith("cuda")
    if (pretended := os.environ.get(PRETENDED)) and devices == "auto":
        return tuple(f"pretended:{index}" for index in range(int(pretended)))
    if devices == "cpu" or (devices == "auto" and not on_gpu):
        if on_gpu:
            raise ImpossibleDevices(f"--devices cpu: compute.device = {device!r}; set compute.device=cpu")
        return tuple(f"cpu:{index}" for index in range(max(1, usable_cores() // threads)))
    count = len(visible_gpus())
    if devices == "auto":
        if count == 0:
            raise ImpossibleDevices(
                f"compute.device = {device!r}: this machine has no CUDA devices; set compute.device=cpu or run where"
                " there is one"
            )
        named = [device] if ":" in device else [f"cuda:{index}" for index in range(count)]
    else:
        named = [name.strip() for name in devices.split(",")]
    for name in named:
        if not re.fullmatch(r"cuda:\d+", name) or named.count(name) > 1:
            raise ImpossibleDevices(
                f"--devices {devices}: {name!r} is no device or is given twice; give auto, cpu, or GPUs such as"
                " cuda:0,cuda:1"
            )
        if int(name[5:]) >= count:
            raise ImpossibleDevices(
                f"{name}: this machine has {count} CUDA devices; give one of them to --devices and compute.device, or"
                " set compute.device=cpu"
            )
    if not on_gpu:
        raise ImpossibleDevices(f"--devices {devices}: compute.device = {device!r}; set compute.device=cuda")
    return tuple(named)


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES would list them.

    The driver's device files tell how many there are, so that torch need not be imported.
    """
    if (given := os.environ.get(VISIBLE)) is not None:
        return [name.strip() for name in given.split(",") if name.strip() and name.strip() != "-1"]
    files = [path for path in DEVICE_FILES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(index) for index in range(len(files))]


def offer(names: tuple[str, ...]) -> None:
    """Tell the tasks of this run the slots of this host. Must be called before the first task starts."""
    os.environ[OFFERED] = ",".join(names)


def offered() -> tuple[str, ...]:
    """Return the slots that this run offers to its tasks; one without a name if it offers none."""
    return tuple(os.environ.get(OFFERED, "cpu:0").split(","))


@contextmanager
def taken(count: int) -> Iterator[tuple[str, ...]]:
    """Wait for `count` free slots of this host, all if it has fewer, and hold them; yield their names.

    If they are GPUs, this process, which must not have used one before, sees only them: the first is "cuda:0".
    """
    folder, names = _folder(), offered()
    with ExitStack() as held:
        with locks.held(folder / "queue", locks.EXCLUSIVE):
            while len(mine := _try(held, folder, names, min(count, len(names)))) < min(count, len(names)):
                time.sleep(SECONDS_BETWEEN_TRIES)
        if mine[0].startswith("cuda"):
            visible = visible_gpus()
            os.environ[VISIBLE] = ",".join(visible[int(name[5:])] for name in mine)
        yield mine


def _try(held: ExitStack, folder: Path, names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Hold `count` of the named slots if so many are free, and return them; else hold none."""
    found = []
    with ExitStack() as tried:
        for name in names:
            if tried.enter_context(locks.free(folder / name)):
                found.append(name)
            if len(found) == count:
                held.push(tried.pop_all())
                return tuple(found)
    return ()


def _folder() -> Path:
    """Return the folder of the slots of this host and user. Raises `UnsafeFolder` if it may be another user's."""
    base = Path(tempfile.gettempdir()) / f"acga-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    status = base.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise UnsafeFolder(f"{base}: is no folder that this user alone may change; remove it, or set TMPDIR to another")
    return base / f"slots-{os.uname().nodename}"
