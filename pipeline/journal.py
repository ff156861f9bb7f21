"""What one run did, task by task, in the order in which it happened.

Luigi's own summary cannot tell a task that was built from one that found its artifact; the journal can.
One JSON line an event, appended in one write, so that workers of one host share the file.
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
    """Appends to and reads one run's file."""

    path: Path

    def record(self, event: Event, stage: str, task: str, **facts: Any) -> None:
        """Append one event; `facts` are JSON values."""
        line = (json.dumps({"event": event, "stage": stage, "task": task, **facts}) + "\n").encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":  # the line before was cut short by a full disk
                line = b"\n" + line
            if os.write(handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        finally:
            os.close(handle)

    def events(self) -> list[dict[str, Any]]:
        """All events so far; a line cut short by a kill is left out."""
        if not self.path.exists():
            return []
        events = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return events
