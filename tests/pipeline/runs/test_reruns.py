"""What reruns is exactly what must: the README's tables, executed row by row."""

import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from changes import CHANGES, Place
from commands import PROJECT, Acga, Run
from stores import events

pytestmark = pytest.mark.slow

PRETRAINED = ("--set", "visual.weights=pretrain")
Reruns = dict[str, str]
"""Which tasks run: of each stage "all" or "one"."""


@dataclass(frozen=True)
class Row:
    """What runs after a change, and what runs then unless its inputs come out equal."""

    runs: Reruns
    unless_equal: Reruns


def table(heading: str) -> dict[str, Row]:
    """A table of the README by its first column; "Frames (one)" means one task of the stage, "Frames" all of them."""
    text = (PROJECT / "README.md").read_text()
    (lines,) = re.findall(rf"^\| {heading} \|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", text, flags=re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in lines.splitlines()]
    return {row[0]: Row(reruns(row[1]), reruns(row[2])) for row in rows}


def reruns(cell: str) -> Reruns:
    return {stage: "one" if one else "all" for stage, one in re.findall(r"([A-Z]\w+)( \(one\))?", cell)}


def rerun(name: str, store: Path, folder: Path, *arguments: str) -> tuple[Row, dict[str, int], dict[str, int]]:
    """Make a change where everything is there: what is planned then, how many tasks there are of each stage, and how
    many run by the journal."""
    (source,) = (path for path in (store / "miniature").iterdir() if path.is_dir())
    acga, change = CHANGES[name](Place(store, Path(shutil.copytree(source, folder / "raw")), folder))
    done = acga("plan", acga.config, "--store", store, *change, *arguments, "--json")
    assert done.code == 0, done.errors
    planned = done.document["stages"]
    total = {stage: entry["run"] + entry["reuse"] for stage, entry in planned.items()}
    surely = {stage: entry["run"] - entry["unless_equal"] for stage, entry in planned.items()}
    unless = {stage: entry["unless_equal"] for stage, entry in planned.items()}
    acga.run(store, *change, *arguments)
    executed = Counter(event["stage"] for event in events(store) if event["event"] == "executed")
    return Row(in_words(surely, total), in_words(unless, total)), total, executed


def in_words(counts: dict[str, int], total: dict[str, int]) -> Reruns:
    said = {stage: "all" if count == total[stage] else "one" for stage, count in counts.items() if count}
    assert all(word == "all" or counts[stage] == 1 for stage, word in said.items()), counts
    return said


def check(row: Row, planned: Row, total: dict[str, int], executed: dict[str, int]) -> None:
    """The plan and the run did what the README says: no task more, and fewer only where inputs came out equal."""
    assert planned == row
    surely, unless = (
        {stage: total[stage] if word == "all" else 1 for stage, word in each.items()}
        for each in (row.runs, row.unless_equal)
    )
    for stage in total:
        least = surely.get(stage, 0)
        assert least <= executed.get(stage, 0) <= least + unless.get(stage, 0), stage


def test_both_tables_name_changes_that_are_tested() -> None:
    assert table("changed").keys() == CHANGES.keys()
    assert table("changed, with `pretrain`").keys() <= CHANGES.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_with_a_fixed_trunk_reruns_what_the_readme_says(name: str, store: Path, tmp_path: Path) -> None:
    check(table("changed")[name], *rerun(name, store, tmp_path))


@pytest.fixture(scope="module")
def pretrained(acga: Acga, finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything of tiny, its trunk pretrained."""
    store = Path(shutil.copytree(finished.store, tmp_path_factory.mktemp("pretrained") / "store"))
    acga.run(store, *PRETRAINED)
    return store


@pytest.mark.parametrize("name", table("changed, with `pretrain`"))
def test_with_a_pretrained_trunk_reruns_what_the_readme_says(name: str, pretrained: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(pretrained, tmp_path / "store"))
    check(table("changed, with `pretrain`")[name], *rerun(name, store, tmp_path, *PRETRAINED))
