"""The whole chain on tiny: what runs, what is reused, and that it comes out the same."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from commands import Acga, Run
from stores import EVERYTHING, OF_ROLE, SHARDED, SINGLE, data_files, events, manifests


def test_a_first_run_executes_every_stage_and_reports(finished: Run) -> None:
    document = finished.document
    assert document["ok"] is True
    assert document["executed"] == EVERYTHING
    assert document["reused"] == {}
    assert {stage: len(folders) for stage, folders in document["artifacts"].items()} == EVERYTHING
    assert {"acga", "coco", "acga_swapped"} <= document["metrics"].keys()
    assert document["metrics"]["acga"]["precision"].keys() == {"0.5", "0.6", "0.7", "0.8", "0.9"}
    page = Path(document["report"]).read_text()
    assert "random weights" in page
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_second_run_executes_nothing(acga: Acga, store: Path) -> None:
    document = acga.run(store)
    assert document["executed"] == {}
    assert document["reused"] == EVERYTHING
    assert {event["event"] for event in events(store)} == {"reused"}
    assert len(events(store)) == sum(EVERYTHING.values())


def test_another_learning_rate_trains_again_and_extracts_nothing(acga: Acga, store: Path) -> None:
    document = acga.run(store, "--set", "training.lr=0.002")
    assert document["executed"] == SINGLE
    assert document["reused"] == SHARDED | OF_ROLE
    assert acga.run(store)["executed"] == {}, "the first learning rate is still there"


def test_a_run_up_to_a_stage_builds_what_it_needs_and_no_more(acga: Acga, finished: Run, tmp_path: Path) -> None:
    document = acga.run(tmp_path / "store", "--until", "Masks", "--workers", 1)
    assert document["executed"] == {"Masks": 4}
    assert (document["metrics"], document["report"]) == ({}, None)
    assert manifests(tmp_path / "store").items() <= manifests_without_costs(finished.store, tmp_path / "store").items()


def manifests_without_costs(store: Path, measured: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The manifests of one store with what was measured taken from another, which must be all that differs.

    The catalogue's name, too: it is that of the raw files with their places, which lie in the stores here."""
    other = manifests(measured)
    found = {}
    for name, manifest in manifests(store).items():
        if name in other:
            taken = {key: other[name][key] for key in ("attempt", "cost", "seal")}
            raw = {"catalogue": same_but_for_places(manifest, other[name], store, measured)}
            found[name] = manifest | taken | {"experiment": manifest["experiment"] | raw}
    return found


def same_but_for_places(manifest: dict[str, Any], other: dict[str, Any], store: Path, measured: Path) -> str:
    """The other manifest's catalogue, which must list what the first one's does."""
    names = (manifest["experiment"]["catalogue"], other["experiment"]["catalogue"])
    texts = [
        (folder / "catalogue" / f"{name}.json").read_text().replace(str(folder.resolve()), "")
        for folder, name in zip((store, measured), names, strict=True)
    ]
    assert texts[0] == texts[1]
    return str(names[1])


@pytest.mark.slow
def test_two_runs_from_empty_stores_give_equal_bytes_whatever_the_workers(
    acga: Acga, finished: Run, tmp_path: Path
) -> None:
    acga.run(tmp_path / "other", "--workers", 1)
    assert data_files(tmp_path / "other") == data_files(finished.store)
    assert manifests(tmp_path / "other") == manifests_without_costs(finished.store, tmp_path / "other")


def test_a_moved_data_set_is_recognised_by_its_content(acga: Acga, store: Path, miniature: Path) -> None:
    assert acga.run(store, "--set", f"dataset.root={miniature}")["executed"] == {}


def test_an_edited_sentence_of_the_train_set_decodes_no_video(acga: Acga, store: Path, miniature: Path) -> None:
    path = miniature / "text_annotations" / "a2d_annotation.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], f"{lines[1]} slowly", *lines[2:]]) + "\n")
    document = acga.run(store, "--set", f"dataset.root={miniature}")
    executed = document["executed"]
    assert executed.keys() >= {"TextFeatures", "Samples", "TrainedModel"}
    assert (executed["TextFeatures"], executed["Samples"]) == (1, 1), "the test set's are the same"
    assert not executed.keys() & SHARDED.keys()


def test_train_and_test_sets_may_be_different_folders(acga: Acga, store: Path, miniature: Path) -> None:
    two = ("train.dataset=here", "test.dataset=there", f"dataset.there.root={miniature}", "dataset.here.shards=2")
    document = acga.run(store, *(part for override in two for part in ("--set", override)))
    assert document["executed"] == {}


@pytest.mark.slow
def test_a_kill_at_any_moment_publishes_nothing_half_done(acga: Acga, finished: Run, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for seconds in (2.0, 4.0, 6.0, 8.0):
        process = subprocess.Popen(
            acga.command("run", acga.config, "--store", store),
            cwd=acga.config.parents[1],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seconds)
        kill_group(process)
    acga.run(store)
    assert data_files(store) == data_files(finished.store)


def test_a_run_that_is_killed_leaves_no_process_behind(acga: Acga, tmp_path: Path) -> None:
    with acga.saying("Masks", "run", acga.config, "--store", tmp_path / "store") as process:  # tasks are running
        started = psutil.Process(process.pid).children(recursive=True)
        assert any("forkserver" in " ".join(child.cmdline()) for child in started)
        process.kill()  # this one alone
        process.wait()
        gone, alive = psutil.wait_procs(started, timeout=20)
    assert gone and not alive


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to the run and all processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_training_goes_on_from_its_last_epoch_after_a_kill(acga: Acga, store: Path, tmp_path: Path) -> None:
    longer = ("--set", "training.epochs=6")
    whole = acga.run(tmp_path / "whole", *longer)
    with acga.saying("epoch 2 of 6", "run", acga.config, "--store", store, *longer):
        pass
    done = acga("run", acga.config, "--store", store, "--json", *longer)
    assert "resuming after epoch" in done.errors
    assert done.document["metrics"] == whole["metrics"]
    assert data_files(tmp_path / "whole").items() <= data_files(store).items()


def test_plan_and_status_tell_before_anything_runs(acga: Acga, finished: Run, tmp_path: Path) -> None:
    fresh = acga("plan", acga.config, "--store", tmp_path / "fresh", "--json").document["stages"]
    assert {stage: entry["run"] for stage, entry in fresh.items()} == EVERYTHING
    other = ("--store", finished.store, "--json", "--set", "training.lr=0.5")
    changed = acga("plan", acga.config, *other).document["stages"]
    assert {stage for stage, entry in changed.items() if entry["run"]} == SINGLE.keys()
    assert all(entry["reasons"] for entry in changed.values() if entry["run"])
    assert acga("status", acga.config, "--store", finished.store).code == 0
    assert acga("status", acga.config, "--store", tmp_path / "fresh").code == 1
