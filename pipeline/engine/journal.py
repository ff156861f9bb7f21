"""The journal of a run: a file with one event for each task, in the order of time.

Unlike Luigi's own summary, it distinguishes a task that was built from one whose artifact existed already. Each event
is one line of JSON, appended by one write, so that all workers of a host can share the file.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Event = Literal["executed", "reused", "failed"]


@dataclass(frozen=True)
class Journal:
    """The journal file of one run, which can be read and appended to."""

    path: Path

    def record(self, event: Event, stage: str, task: str, **facts: Any) -> None:
        """Append one event; `facts` are JSON values. Raises OSError if the disk is full."""
        line = (json.dumps({"event": event, "stage": stage, "task": task, **facts}) + "\n").encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":  # a full disk cut the previous line short
                line = b"\n" + line
            if os.write(handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        finally:
            os.close(handle)

    def events(self) -> list[dict[str, Any]]:
        """Return all events so far, without lines that were cut short because their process was killed."""
        if not self.path.exists():
            return []
        events = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return events
