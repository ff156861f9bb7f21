"""The journal of a run: a file with one event for each task, in the order of time.

Unlike Luigi's own summary, it distinguishes a task that was built from one whose artifact existed already. Each event
is one line of JSON, appended by one write, so that all workers of a host can share the file.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["executed", "reused", "failed"]
Event = dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """The journal file of one run, which can be read and appended to."""

    path: Path

    def record(self, event: Kind, stage: str, task: str, **facts: Any) -> None:
        """Append one event; `facts` are JSON values. Raises OSError if the disk is full."""
        place = {"host": os.uname().nodename, "time": round(time.time(), 3)}
        line = (json.dumps({"event": event, "stage": stage, "task": task, **facts, **place}) + "\n").encode()
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

    def events(self, start: int = 0) -> list[Event]:
        """Return the events from a byte of the file on, without lines that were cut short by a kill."""
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                lines = file.read().splitlines()
        except FileNotFoundError:
            return []
        events = []
        for line in lines:
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return events


class OtherJournals:
    """The journals of all other runs on a store, from the time on at which this object is made."""

    def __init__(self, own: Path) -> None:
        self._own = own
        self._seen = {path: path.stat().st_size for path in own.parent.glob("*.jsonl")}

    def failures(self, keys: Collection[str]) -> list[Event]:
        """Return the failures, in other runs, of the tasks with these keys."""
        paths = [path for path in sorted(self._own.parent.glob("*.jsonl")) if path != self._own]
        return [
            event
            for path in paths
            for event in Journal(path).events(self._seen.get(path, 0))
            if event["event"] == "failed" and event.get("key") in keys
        ]
