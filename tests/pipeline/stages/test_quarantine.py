"""A video that cannot be decoded is left out by name, as far as the config allows; nothing else changes."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Acga, Finished

from extractors.shards.shard import ShardReader

FAILED = 3


def of_test_split(miniature: Path) -> list[str]:
    """Videos of the test split that have sentences."""
    rows = [line.split(",") for line in (miniature / "Release" / "videoset.csv").read_text().splitlines()]
    spoken = {path.name for path in (miniature / "text_annotations" / "a2d_annotation_with_instances").iterdir()}
    return sorted(row[0] for row in rows if row[8] == "1" and row[0] in spoken)


def cut(miniature: Path, video: str) -> None:
    path = miniature / "Release" / "clips320H" / f"{video}.mp4"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def run(acga: Acga, store: Path, miniature: Path, *overrides: str) -> Finished:
    keys = (f"dataset.root={miniature}", "visual.weights=seeded", *overrides)
    return acga("run", acga.config, "--store", store, "--json", *(part for key in keys for part in ("--set", key)))


def of_stage(document: dict[str, Any], stage: str, name: str) -> list[Path]:
    """The files of a name in a stage's artifacts."""
    folders = [Path(folder) for folder in document["artifacts"][stage]]
    return [folder / json.loads((folder / "manifest.json").read_bytes())["attempt"] / name for folder in folders]


@pytest.fixture
def quarantined(acga: Acga, tmp_path: Path, miniature: Path) -> tuple[str, dict[str, Any]]:
    """A run whose first test video is cut short, and that video."""
    video = of_test_split(miniature)[0]
    cut(miniature, video)
    done = run(acga, tmp_path / "store", miniature, "dataset.max_failures=1")
    assert done.code == 0, done.errors
    return video, done.document


def test_a_damaged_video_is_named_and_left_out(quarantined: tuple[str, dict[str, Any]], miniature: Path) -> None:
    video, document = quarantined
    ledgers = [json.loads(path.read_bytes()) for path in of_stage(document, "Frames", "ledger.json")]
    (reason,) = [ledger["quarantined"][video] for ledger in ledgers if ledger["quarantined"]]
    assert "bytes are missing" in reason and str(miniature) not in reason
    clips = [clip for path in of_stage(document, "Frames", "frames.h5") for clip in ShardReader(path).ids]
    assert clips and not any(clip.startswith(f"{video}/") for clip in clips)
    tables = [json.loads(path.read_bytes()) for path in of_stage(document, "Samples", "samples.json")]
    assert {clip.rpartition("/")[0] for clip in clips} == {
        sample["clip"].rpartition("/")[0] for table in tables for sample in table["samples"]
    }
    assert [table["quarantined"] for table in tables if table["quarantined"]] == [{video: reason}]
    (page,) = of_stage(document, "Report", "report.html")
    assert video in page.read_text() and "bytes are missing" in page.read_text()


@pytest.mark.slow
def test_more_than_allowed_stop_the_run_and_lose_nothing(acga: Acga, tmp_path: Path, miniature: Path) -> None:
    first, second, *_ = of_test_split(miniature)
    whole = (miniature / "Release" / "clips320H" / f"{second}.mp4").read_bytes()
    cut(miniature, first)
    cut(miniature, second)
    done = run(acga, tmp_path / "store", miniature, "dataset.max_failures=1", "dataset.shards=1")
    assert done.code == FAILED and done.output == ""
    assert "2 unreadable videos, 1 allowed" in done.errors and "dataset.max_failures" in done.errors
    assert first in done.errors and second in done.errors and "Traceback" not in done.errors
    published = [path.parent for path in (tmp_path / "store" / "Frames").glob("*/manifest.json")]
    begun = [path.parent for path in (tmp_path / "store" / "Frames").glob("*/attempt-*/")]
    assert begun == published, "what failed leaves no files behind"
    (miniature / "Release" / "clips320H" / f"{second}.mp4").write_bytes(whole)
    again = run(acga, tmp_path / "store", miniature, "dataset.max_failures=1", "dataset.shards=1")
    assert again.code == 0, again.errors
    assert again.document["reused"]["Frames"] == 1  # the train shard


@pytest.mark.slow
def test_the_limit_counts_a_splits_shards_together(acga: Acga, tmp_path: Path, miniature: Path) -> None:
    videos = of_test_split(miniature)
    for video in videos[:-1]:
        cut(miniature, video)
    done = run(acga, tmp_path / "store", miniature, f"dataset.max_failures={len(videos) - 2}")
    assert done.code == FAILED
    assert f"{len(videos) - 1} unreadable videos, {len(videos) - 2} allowed" in done.errors


@pytest.mark.slow
def test_raising_the_limit_decodes_nothing_again(
    quarantined: tuple[str, dict[str, Any]], acga: Acga, tmp_path: Path, miniature: Path
) -> None:
    _, document = quarantined
    done = run(acga, tmp_path / "store", miniature, "dataset.max_failures=2")
    assert done.code == 0, done.errors
    assert done.document["artifacts"]["Frames"] == document["artifacts"]["Frames"]
    assert "Frames" not in done.document["executed"] and "TrainedModel" not in done.document["executed"]


@pytest.mark.slow
def test_an_absent_instance_can_be_kept_with_an_empty_mask(acga: Acga, tmp_path: Path, miniature: Path) -> None:
    annotations = miniature / "text_annotations" / "a2d_annotation.txt"
    video = of_test_split(miniature)[0]
    text = annotations.read_text()
    annotations.write_text(text + f"{video},77,the purple dog\n")
    sizes = {}
    for absent in ("drop", "empty"):
        done = run(acga, tmp_path / "store", miniature, f"dataset.absent={absent}")
        assert done.code == 0, done.errors
        tables = [json.loads(path.read_bytes()) for path in of_stage(done.document, "Samples", "samples.json")]
        sizes[absent] = sum(len(table["samples"]) for table in tables)
        assert sum(len(table["rules"]["absent_instance"]) for table in tables) == 2  # two labelled frames
        (metrics,) = of_stage(done.document, "Metrics", "metrics.json")
        ious = json.loads(metrics.read_bytes())["samples"]
        kept = [iou for name, iou in ious.items() if name.startswith(f"{video}/77@")]
        assert len(kept) == (2 if absent == "empty" else 0)
        assert all(iou < 1e-6 for iou in kept)  # the authors' masks are never empty
    assert sizes["empty"] == sizes["drop"] + 2
