"""A context manager that creates a folder atomically."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import interrupts


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder that is renamed to `folder` when the context ends, or deleted if the context fails or the
    command is interrupted.

    Raises OSError if `folder` exists by then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="part-", dir=folder.parent, ignore_cleanup_errors=True) as scratch,
        interrupts.deleted(scratch),
    ):
        made = Path(scratch) / folder.name
        made.mkdir()
        yield made
        made.rename(folder)
