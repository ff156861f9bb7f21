"""`acga compare`: several experiments side by side, with paired intervals of their differences."""

from pathlib import Path

import numpy as np
import pytest
from commands import Acga, Run

from pipeline.operations.compare import Scored, _difference


@pytest.fixture
def other(acga: Acga, tmp_path: Path) -> Path:
    """Tiny with another learning rate, as a config of its own."""
    acga.copy_config(tmp_path)
    path = tmp_path / "other.toml"
    path.write_text('extends = "tiny.toml"\n[training]\nlr = 0.05\n')
    return path


def test_two_experiments_side_by_side(acga: Acga, store: Path, other: Path) -> None:
    assert acga("run", other, "--store", store, "--until", "Metrics").code == 0
    done = acga("compare", acga.config, other, "--store", store, "--json")
    assert done.code == 0, done.errors
    rows = done.document["protocols"]["acga"]
    first, second = rows[str(acga.config)], rows[str(other)]
    assert first["difference"] is None and done.document["not_compared"] == []
    assert second["difference"] == pytest.approx(second["scores"]["mean_iou"] - first["scores"]["mean_iou"])
    low, high = second["interval"]
    assert low <= second["difference"] <= high
    assert set(done.document["protocols"]) >= {"acga", "coco"}
    table = acga("compare", acga.config, other, "--store", store)
    assert table.code == 0 and f"{second['difference']:+.3f} ({low:+.3f} to {high:+.3f})" in table.output


def test_an_experiment_differs_from_itself_by_nothing(acga: Acga, finished: Run, tmp_path: Path) -> None:
    acga.copy_config(tmp_path)
    again = tmp_path / "tiny.toml"
    done = acga("compare", acga.config, again, "--store", finished.store, "--json")
    row = done.document["protocols"]["acga"][str(again)]
    assert (row["difference"], row["interval"]) == (0.0, [0.0, 0.0])


def test_scores_of_other_samples_are_not_compared(acga: Acga, store: Path, tmp_path: Path) -> None:
    swapped = tmp_path / "swapped.toml"
    acga.copy_config(tmp_path)
    swapped.write_text('extends = "tiny.toml"\n[test]\nsplit = "train"\n')
    assert acga("run", swapped, "--store", store, "--until", "Metrics").code == 0
    done = acga("compare", acga.config, swapped, "--store", store, "--json")
    assert done.code == 0 and len(done.document["not_compared"]) == 1
    assert done.document["protocols"]["acga"][str(swapped)]["difference"] is None


def test_an_experiment_that_was_not_run_is_named(acga: Acga, finished: Run, other: Path) -> None:
    done = acga("compare", acga.config, other, "--store", finished.store)
    assert done.code == 2
    assert f"run `acga run {other}` first" in done.errors and "Traceback" not in done.errors


def test_the_interval_draws_videos_and_not_samples() -> None:
    names = [f"{video}/{sample}" for video in "ab" for sample in range(4)]
    videos = {name: name[0] for name in names}
    first = Scored({"samples": dict.fromkeys(names, 0.5)}, videos)
    better = Scored({"samples": {name: 0.7 if name[0] == "a" else 0.5 for name in names}}, videos)
    difference, interval = _difference(first, better, 2000, 0)
    assert difference == pytest.approx(0.1)
    # Of two videos drawn twice, both are "b" in a quarter of the draws, and both "a" in another.
    assert np.allclose(interval, [0.0, 0.2])
