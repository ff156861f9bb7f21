"""`acga plan` and `acga why`: what would run, and why, down to the key."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import Acga


def plan(acga: Acga, store: Path, *arguments: object) -> dict[str, Any]:
    done = acga("plan", acga.config, "--store", store, "--json", *arguments)
    assert done.code == 0, done.errors
    return done.document["stages"]


def running(stages: dict[str, Any]) -> set[str]:
    return {name for name, entry in stages.items() if entry["run"]}


def test_nothing_would_run_in_a_finished_store(acga: Acga, finished: Any) -> None:
    stages = plan(acga, finished.store)
    assert running(stages) == set()
    assert all(entry["reuse"] > 0 and entry["reasons"] == [] for entry in stages.values())


def test_in_an_empty_store_everything_would(acga: Acga, tmp_path: Path) -> None:
    stages = plan(acga, tmp_path / "store")
    assert all(entry["reuse"] == 0 and entry["reasons"] == ["nothing was made of it yet"] for entry in stages.values())


def test_a_changed_key_is_named_with_both_values(acga: Acga, finished: Any) -> None:
    stages = plan(acga, finished.store, "--set", "frames.size=96", "--set", "training.lr=0.001")
    assert stages["Frames"]["reasons"] == ["frames.size 64 -> 96"]
    assert (stages["Frames"]["run"], stages["Frames"]["videos"]) == (4, 12)
    assert stages["Frames"]["seconds"] > 0 and stages["Frames"]["bytes"] > 0
    assert stages["TrainedModel"]["reasons"] == [
        "training.lr 0.0005 -> 0.001",
        "after Masks, Samples, VisualFeatures",
    ]
    assert running(stages) == set(stages) - {"TextFeatures"}


def test_stages_whose_inputs_may_come_out_equal_are_an_upper_bound(acga: Acga, finished: Any) -> None:
    stages = plan(acga, finished.store, "--set", "frames.verify=1.0")
    assert stages["Frames"]["unless_equal"] == 0
    assert stages["VisualFeatures"]["unless_equal"] == 4
    assert stages["VisualFeatures"]["reasons"] == ["after Frames: runs unless its inputs come out equal"]


def test_changed_videos_and_sentences_are_named(acga: Acga, store: Path, miniature: Path) -> None:
    videoset = miniature / "Release" / "videoset.csv"
    rows = [line.split(",") for line in videoset.read_text().splitlines()]
    (replaced, *_), (source, *_) = rows[0], rows[1]
    folder = miniature / "Release" / "clips320H"
    shutil.copyfile(folder / f"{source}.mp4", folder / f"{replaced}.mp4")
    stages = plan(acga, store, "--set", f"dataset.root={miniature}")
    assert stages["Frames"]["reasons"] == [f"video {replaced} replaced"]
    assert (stages["Frames"]["run"], stages["Frames"]["videos"]) == (1, 1)
    assert stages["Masks"]["run"] == stages["TextFeatures"]["run"] == 0

    (sentences,) = (miniature / "text_annotations").glob("a2d_annotation.txt")
    lines = sentences.read_text().splitlines()
    sentences.write_text("\n".join([lines[0], lines[1] + " slowly", *lines[2:]]) + "\n")
    stages = plan(acga, store, "--set", f"dataset.root={miniature}")
    assert len(stages["TextFeatures"]["reasons"]) == 1
    assert stages["TextFeatures"]["reasons"][0].startswith("sentence ")
    assert stages["TextFeatures"]["reasons"][0].endswith(" edited")
    assert "VisualFeatures" in running(stages), "only for the replaced video"


def test_changed_code_is_named_by_its_module(finished: Any, tmp_path: Path) -> None:
    copy = Acga.copied(tmp_path / "project")
    letterbox = copy.project / "data" / "letterbox.py"
    letterbox.write_text(letterbox.read_text() + "\n# a comment changes nothing\n")
    assert running(plan(copy, finished.store)) == set()
    letterbox.write_text(letterbox.read_text() + "\nSOMETHING_NEW = 1\n")
    stages = plan(copy, finished.store)
    assert stages["Frames"]["reasons"] == ["code: data.letterbox changed"]
    assert "TextFeatures" not in running(stages)


def test_why_tells_it_for_each_task(acga: Acga, finished: Any) -> None:
    done = acga("why", "VisualFeatures", acga.config, "--store", finished.store, "--set", "visual.seed=3", "--json")
    assert done.code == 0, done.errors
    tasks = done.document["tasks"]
    assert [task["label"] for task in tasks] == ["train/000 rgb", "train/001 rgb", "test/000 rgb", "test/001 rgb"]
    assert all(task["runs"] and task["reasons"] == ["visual.seed 0 -> 3"] for task in tasks)
    done = acga("why", "Report", acga.config, "--store", finished.store)
    assert done.output == "Report: reused\n"


@pytest.mark.parametrize("stage", ["Nothing", "frames"])
def test_an_unknown_stage_is_refused(acga: Acga, stage: str) -> None:
    done = acga("why", stage, acga.config)
    assert done.code == 2
    assert f"'{stage}' is not one of 'Frames'" in done.errors


def estimated(acga: Acga, store: Path, *arguments: object) -> dict[str, Any]:
    done = acga("plan", acga.config, "--store", store, "--json", *arguments)
    assert done.code == 0, done.errors
    return done.document["estimate"]


def test_what_ran_before_tells_how_long_it_takes_on_more_devices(acga: Acga, finished: Any) -> None:
    changed = ("--set", "frames.size=96", "--workers", 1, "--devices")
    one = estimated(acga, finished.store, *changed, "cuda:0")
    four = estimated(acga, finished.store, *changed, "cuda:0", "--hosts", 4)
    assert {one["bottleneck"], four["bottleneck"]} <= {"VisualFeatures", "TrainedModel"}
    assert one["unknown"] == [] and one["bytes"] == four["bytes"] > 0
    features = plan(acga, finished.store, "--set", "frames.size=96")["VisualFeatures"]["seconds"]
    assert one["seconds"] - four["seconds"] == pytest.approx(features * 3 / 4, abs=0.1)


def test_what_never_ran_is_estimated_by_measured_rates_on_cpus_alone(acga: Acga, tmp_path: Path) -> None:
    on_cpu = estimated(acga, tmp_path / "store")
    assert on_cpu["seconds"] > 0 and on_cpu["unknown"] == []
    pretrained = estimated(acga, tmp_path / "store", "--set", "visual.weights=pretrain")
    assert pretrained["unknown"] == ["PretrainedTrunk"]
    on_gpu = estimated(acga, tmp_path / "store", "--set", "compute.device=cuda", "--devices", "cuda:0")
    assert sorted(on_gpu["unknown"]) == sorted(["VisualFeatures", "TrainedModel", "Predictions"])
    assert on_gpu["bottleneck"] == "Frames"
