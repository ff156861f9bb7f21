"""The journal: a line an event, whatever happened to the line before."""

import os
import time
from pathlib import Path

from pipeline.engine.journal import Journal, OtherJournals


def test_events_come_back_in_their_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal" / "run.jsonl")
    assert journal.events() == []
    journal.record("executed", "Frames", "train/000", seconds=1.5)
    journal.record("reused", "Masks", "train/000")
    first, second = journal.events()
    place = {"host": os.uname().nodename, "time": first["time"]}
    assert first == {"event": "executed", "stage": "Frames", "task": "train/000", "seconds": 1.5, **place}
    assert second == {"event": "reused", "stage": "Masks", "task": "train/000", **place, "time": second["time"]}
    assert time.time() - 60 < first["time"] <= second["time"] <= time.time() + 1


def test_a_line_that_was_cut_short_costs_no_other(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.jsonl")
    journal.record("executed", "Frames", "train/000")
    journal.path.write_bytes(journal.path.read_bytes() + b'{"event": "execu')
    journal.record("executed", "Masks", "train/000")
    assert [event["stage"] for event in journal.events()] == ["Frames", "Masks"]


def test_failures_of_other_runs_count_from_now_on_and_by_key(tmp_path: Path) -> None:
    before, other = Journal(tmp_path / "before.jsonl"), Journal(tmp_path / "other.jsonl")
    before.record("failed", "Frames", "train/000", key="a", kind="refused", error="old")
    others = OtherJournals(tmp_path / "own.jsonl")
    before.record("failed", "Frames", "train/001", key="b", kind="refused", error="new")
    other.record("failed", "Masks", "train/000", key="c", kind="refused", error="of another experiment")
    Journal(tmp_path / "own.jsonl").record("failed", "Frames", "train/001", key="b", kind="refused", error="own")
    assert [event["error"] for event in others.failures({"a", "b"})] == ["new"]
