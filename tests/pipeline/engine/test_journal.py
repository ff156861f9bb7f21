"""The journal: a line an event, whatever happened to the line before."""

from pathlib import Path

from pipeline.engine.journal import Journal


def test_events_come_back_in_their_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal" / "run.jsonl")
    assert journal.events() == []
    journal.record("executed", "Frames", "train/000", seconds=1.5)
    journal.record("reused", "Masks", "train/000")
    assert journal.events() == [
        {"event": "executed", "stage": "Frames", "task": "train/000", "seconds": 1.5},
        {"event": "reused", "stage": "Masks", "task": "train/000"},
    ]


def test_a_line_that_was_cut_short_costs_no_other(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.jsonl")
    journal.record("executed", "Frames", "train/000")
    journal.path.write_bytes(journal.path.read_bytes() + b'{"event": "execu')
    journal.record("executed", "Masks", "train/000")
    assert [event["stage"] for event in journal.events()] == ["Frames", "Masks"]
