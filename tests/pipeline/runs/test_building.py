"""Which failures end a run, its own and those of other runs."""

from pathlib import Path
from typing import Any

from pipeline.engine.journal import Journal
from pipeline.runs.building import certain, failure


def failed(kind: str, task: str = "train/000", host: str = "a") -> dict[str, Any]:
    return {"event": "failed", "stage": "Frames", "task": task, "kind": kind, "error": f"{kind} error", "host": host}


def test_a_refusal_is_certain_and_chance_is_so_the_second_time() -> None:
    assert certain([failed("transient"), failed("unexpected", "train/001")]) == []
    assert certain([failed("refused")]) == [failed("refused")]
    assert certain([failed("transient"), failed("transient")]) == [failed("transient")] * 2


def test_the_first_refusal_is_told_with_its_host_where_it_is_another() -> None:
    journal = Journal(Path("journal") / "run.jsonl")
    assert failure([], [failed("transient", host="b")], journal) is None
    assert failure([], [failed("refused", host="b")], journal) == "Frames train/000 on b: refused error"
    own = [failed("unexpected", "train/001"), failed("refused")]
    assert failure(own, [failed("refused", host="b")], journal) == "Frames train/000: refused error"
