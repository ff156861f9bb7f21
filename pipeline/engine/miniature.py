"""The generated miniature data set of a config, which is written once and kept in the store."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from pipeline import interrupts
from pipeline.config import Config
from pipeline.engine.key import code_digest
from pipeline.engine.progress import Progress
from pipeline.sections.dataset.datasets import MiniatureSection
from pipeline.stages.support.orphans import end_with_parent
from pipeline.store import locks
from pipeline.store.artifact import sha256
from pipeline.store.canonical_json import digest

log = logging.getLogger(__name__)
SUMS = "SHA256SUMS"  # in the format of sha256sum


def ensure(config: Config, store: Path) -> Path:
    """Return the folder of the miniature that [miniature] describes; generate it if it is missing or damaged."""
    assert config.miniature is not None, "the config was checked"
    name = digest({"spec": config.miniature.model_dump(), "code": code_digest("data.miniature.a2d_layout")})
    folder = store / "miniature" / name[:16]
    if _is_whole(folder):
        return folder
    with locks.held(folder.parent / "lock", locks.EXCLUSIVE, "waiting for {}, which draws the miniature"):
        if not _is_whole(folder):
            if folder.is_dir():
                log.warning("%s is not what was drawn; it is drawn again", folder)
                shutil.rmtree(folder)
            scratch = Path(tempfile.mkdtemp(prefix="part-", dir=folder.parent))
            try:
                write(config.miniature, scratch / "set")
                sums = "".join(f"{value}  {name}\n" for name, value in _sums(scratch / "set").items())
                (scratch / "set" / SUMS).write_text(sums, encoding="utf-8")
                (scratch / "set").rename(folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _is_whole(folder: Path) -> bool:
    """Return whether all files exist and are unchanged since they were generated, like `sha256sum --check`."""
    if not (folder / SUMS).is_file():
        return False
    lines = (folder / SUMS).read_bytes().decode(errors="replace").splitlines()
    return lines == [f"{value}  {name}" for name, value in _sums(folder).items()]


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, by its path relative to the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    return {str(path.relative_to(folder)): sha256(path) for path in files}


def write(section: MiniatureSection, folder: Path) -> None:
    """Write the data set in a separate process, so that neither this process nor the forkserver loads video codecs."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=end_with_parent) as pool:
        with interrupts.spared():
            written = pool.submit(_write, section.model_dump(), str(folder))
        written.result()


def _write(values: dict[str, Any], folder: str) -> None:
    from data.miniature import a2d_layout

    with Progress("miniature") as progress:
        a2d_layout.write(Path(folder), a2d_layout.Spec(**values), progress.update)
