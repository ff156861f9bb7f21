"""The generated data set of a config, made once and kept in the store."""

from __future__ import annotations

import fcntl
import multiprocessing
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pipeline.config import Config, MiniatureSection
from pipeline.key import code_digest, digest
from pipeline.progress import Progress


def ensure(config: Config, store: Path) -> Path:
    """The folder of the miniature that [miniature] describes; written first if it is not there."""
    assert config.miniature is not None, "the config was checked"
    name = digest({"spec": config.miniature.model_dump(), "code": code_digest("data.miniature:write")})
    folder = store / "miniature" / name[:16]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            scratch = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
            try:
                write(config.miniature, scratch / "set")
                (scratch / "set").rename(folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return folder


def write(section: MiniatureSection, folder: Path) -> None:
    """Write the data set, in a process of its own: codecs stay out of this one, and of the one that tasks come from."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_write, args=(section.model_dump(), str(folder)))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"writing the miniature into {folder} ended with status {process.exitcode}")


def _write(values: dict[str, Any], folder: str) -> None:
    from data import miniature

    with Progress("miniature") as progress:
        miniature.write(Path(folder), miniature.Spec(**values), progress.update)
