"""`acga gc`: what no config reaches goes, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import PROJECT, Acga, Run
from stores import data_files, manifests

OTHER = ("--set", "training.lr=0.002")
AFTER_TRAINING = {"TrainedModel", "Predictions", "Metrics", "Report"}


def collected(acga: Acga, store: Path, *arguments: object) -> dict[str, dict[str, Any]]:
    done = acga("gc", acga.config, *arguments, "--store", store, "--json")
    assert done.code == 0, done.errors
    return done.document["stages"]


def of_kind(stages: dict[str, dict[str, Any]], kind: str) -> dict[str, int]:
    return {stage: len(kinds[kind]["folders"]) for stage, kinds in stages.items() if kind in kinds}


def test_a_finished_store_has_no_garbage(acga: Acga, store: Path) -> None:
    before = data_files(store)
    stages = collected(acga, store, "--delete")
    assert all(kinds.keys() == {"kept"} for kinds in stages.values())
    assert stages["Frames"]["kept"]["bytes"] > 0
    assert data_files(store) == before


def test_what_no_given_config_reaches_is_listed_and_on_demand_deleted(acga: Acga, store: Path, tmp_path: Path) -> None:
    before = manifests(store)
    acga.run(store, *OTHER)
    assert of_kind(collected(acga, store), "unreached") == dict.fromkeys(AFTER_TRAINING, 1)
    acga.copy_config(tmp_path)
    other = tmp_path / "other.toml"
    other.write_text('extends = "tiny.toml"\n[training]\nlr = 0.002\n')
    assert of_kind(collected(acga, store, other), "unreached") == {}
    assert len(manifests(store)) == len(before) + 4, "a listing deletes nothing"
    done = acga("gc", acga.config, "--store", store, "--delete")
    assert done.code == 0 and "deleted: " in done.output
    assert manifests(store) == before
    assert acga.run(store)["executed"] == {}
    assert acga.run(store, *OTHER)["executed"].keys() == AFTER_TRAINING


def test_where_an_input_is_missing_what_may_be_needed_is_kept(acga: Acga, store: Path) -> None:
    for path in (store / "Samples").glob("*/manifest.json"):
        path.unlink()
    kept = collected(acga, store, "--delete")
    assert of_kind(kept, "unreached") == {}
    assert len(kept["TrainedModel"]["kept"]["folders"]) == 1


@pytest.mark.slow
def test_what_is_pinned_stays(acga: Acga, store: Path) -> None:
    acga.run(store, *OTHER)
    assert acga("gc", acga.config, "--store", store, *OTHER, "--pin").code == 0
    kinds = collected(acga, store, "--delete")
    assert of_kind(kinds, "unreached") == {}
    assert of_kind(kinds, "pinned").items() >= dict.fromkeys(AFTER_TRAINING, 1).items()
    assert acga("gc", acga.config, "--store", store, *OTHER, "--unpin").code == 0
    assert of_kind(collected(acga, store), "unreached") == dict.fromkeys(AFTER_TRAINING, 1)


@pytest.mark.slow
def test_what_a_killed_run_left_is_garbage_once_nobody_goes_on_with_it(
    acga: Acga, finished: Run, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with acga.saying("epoch 1 of", "run", acga.config, "--store", store):
        pass
    left = of_kind(collected(acga, store), "attempts")
    assert left == {"TrainedModel": 1}
    collected(acga, store, "--delete")
    assert of_kind(collected(acga, store), "attempts") == {}
    acga.run(store)
    assert data_files(store) == data_files(finished.store)


@pytest.mark.slow
def test_evicted_files_are_built_again_only_where_they_are_needed(acga: Acga, store: Path) -> None:
    before = data_files(store)
    assert of_kind(collected(acga, store, "--evict", "Frames"), "evicted") == {"Frames": 4}
    assert not list((store / "Frames").glob("*/attempt-*/*"))
    assert acga("status", acga.config, "--store", store).code == 0
    document = acga.run(store)
    assert document["executed"] == {} and "Frames" not in document["reused"]
    executed = acga.run(store, "--set", "visual.seed=1")["executed"]
    assert executed["Frames"] == executed["VisualFeatures"] == 4
    assert data_files(store).items() >= {name: data for name, data in before.items() if "Frames/" in name}.items()
    assert acga.run(store)["reused"]["Frames"] == 4


def test_a_rebuild_of_what_was_evicted_must_give_what_it_was(acga: Acga, store: Path) -> None:
    for path in (store / "Masks").glob("*/manifest.json"):
        rewrite(path, content="f" * 64)
    collected(acga, store, "--evict", "Masks")
    done = acga("run", acga.config, "--store", store, "--set", "masks.threshold=0.4", "--until", "Masks")
    assert done.code == 0, done.errors
    done = acga("run", acga.config, "--store", store, "--until", "Masks")
    assert done.code == 3
    assert "built again, the content is" in done.errors


def rewrite(path: Path, **changes: Any) -> None:
    """A manifest changed by somebody who knows how to seal it."""
    from pipeline.store.canonical_json import canonical, digest

    manifest = json.loads(path.read_bytes()) | changes
    manifest.pop("seal")
    path.write_bytes(canonical({**manifest, "seal": digest(manifest)}))


def test_what_a_running_process_is_about_is_not_touched(acga: Acga, store: Path) -> None:
    before = data_files(store)
    another = ("--set", "visual.seed=5", "--set", "masks.threshold=0.4", "--delete")
    with acga.saying("epoch 1 of", "run", acga.config, "--store", store, "--set", "training.epochs=200"):
        kinds = collected(acga, store, *another)
        assert of_kind(kinds, "in use")["TrainedModel"] == 1
        assert of_kind(kinds, "unreached").keys() <= AFTER_TRAINING, "of the finished run, which is over"
    assert {name for name in before if name not in data_files(store)} == {
        name for name in before if name.partition("/")[0] in of_kind(kinds, "unreached")
    }
    assert of_kind(collected(acga, store, *another), "unreached")["VisualFeatures"] == 4


HOLD = """
import sys
from pathlib import Path
from pipeline.runs import active_runs
with active_runs.exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_begins_only_after_garbage_was_collected(acga: Acga, store: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(store)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with acga.saying(f"waiting for process {holder.pid}", "run", acga.config, "--store", store) as run:
            holder.stdin.close()
            assert run.wait(timeout=60) == 0


@pytest.mark.parametrize("arguments", [("--evict", "Nothing"), ("--pin", "--delete")])
def test_impossible_requests_are_refused(acga: Acga, arguments: tuple[str, ...]) -> None:
    assert acga("gc", acga.config, *arguments).code == 2
