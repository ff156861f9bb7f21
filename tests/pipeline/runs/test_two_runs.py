"""Two runs at once on one store."""

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from commands import PROJECT, Acga, Run
from stores import EVERYTHING, OF_ROLE, SHARDED, SINGLE, data_files, journals


def together(acga: Acga, store: Path, *others: tuple[str, ...]) -> list[str]:
    """Runs of tiny, begun at the same time, which must all succeed; what they said."""
    runs = [
        subprocess.Popen(
            acga.command("run", acga.config, "--store", store, "--json", *arguments),
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments in others
    ]
    said = []
    for run in runs:
        output, errors = run.communicate(timeout=300)
        assert run.returncode == 0 and json.loads(output)["ok"], errors
        said.append(errors)
    return said


def executed(store: Path) -> Counter[str]:
    """How many tasks all runs together built."""
    return Counter(event["stage"] for run in journals(store) for event in run if event["event"] == "executed")


@pytest.mark.slow
def test_two_runs_of_one_config_share_the_work_and_say_for_whom_they_wait(
    acga: Acga, finished: Run, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    said = together(acga, store, (), ())
    assert executed(store) == EVERYTHING
    waits = [line for errors in said for line in errors.splitlines() if " waits for process " in line]
    assert waits and all(line.endswith(", which builds it") for line in waits)
    assert data_files(store) == data_files(finished.store)


@pytest.mark.slow
def test_two_runs_of_different_configs_build_once_what_both_need(acga: Acga, finished: Run, tmp_path: Path) -> None:
    store = tmp_path / "store"
    together(acga, store, (), ("--set", "training.lr=0.002"))
    assert executed(store) == {**SHARDED, **OF_ROLE, **dict.fromkeys(SINGLE, 2)}
    assert data_files(finished.store).items() <= data_files(store).items()
