"""What one run did, task by task, in the order in which it happened.

Luigi's own summary cannot tell a task that was built from one that found its artifact; the journal can.
One JSON line an event, appended in one write, so that workers of one host share the file.
"""

from __future__ import annotations

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
        line = json.dumps({"event": event, "stage": stage, "task": task, **facts}) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
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
