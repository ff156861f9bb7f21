"""Progress display of long work: a bar on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import Self

from tqdm import tqdm

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """A context manager whose `update(done, total)` shows the progress of one piece of work."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._bar: tqdm | None = tqdm(desc=name, leave=False, file=sys.stderr) if sys.stderr.isatty() else None
        self._said = time.monotonic()

    def update(self, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.total = total
            self._bar.n = done
            self._bar.refresh()
        elif time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            log.info("%s: %d of %d", self.name, done, total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
