"""`acga check`: everything that a run would read is opened first, and what is wrong with it is said at once."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from commands import Acga, Finished

NO, USAGE = 1, 2


def check(acga: Acga, store: Path, *arguments: object) -> tuple[int, dict[str, Any]]:
    done = acga("check", acga.config, "--store", store, "--json", *arguments)
    assert done.code in (0, NO), done.errors
    return done.code, done.document


def at(root: Path) -> tuple[str, str]:
    return "--set", f"dataset.root={root}"


def counted(root: Path) -> tuple[int, int]:
    """Videos and samples of A2D's layout, counted from the files themselves."""
    with (root / "text_annotations" / "a2d_annotation.txt").open(newline="") as file:
        rows = list(csv.DictReader(file))
    samples = 0
    for row in rows:
        folder = root / "text_annotations" / "a2d_annotation_with_instances" / row["video_id"]
        for path in folder.glob("*.h5"):
            with h5py.File(path) as masks:
                samples += row["instance_id"] in {str(instance) for instance in masks["instance"][()].tolist()}
    return len({row["video_id"] for row in rows}), samples


@pytest.mark.parametrize("fast", [(), ("--fast",)])
def test_a_whole_data_set_has_no_errors(acga: Acga, tmp_path: Path, miniature: Path, fast: tuple[str, ...]) -> None:
    code, found = check(acga, tmp_path / "store", *at(miniature), *fast)
    assert (code, found["ok"], found["errors"]) == (0, True, [])
    assert (found["videos"], found["samples"]) == counted(miniature)
    assert found["rules"]["missed_video"] == 1 and found["rules"]["query_cleaned"] > 0


def test_nothing_is_built_by_a_check(acga: Acga, tmp_path: Path, miniature: Path) -> None:
    check(acga, tmp_path / "store", *at(miniature))
    assert not (tmp_path / "store").exists()


def test_all_that_is_wrong_is_said_in_one_go(acga: Acga, tmp_path: Path, miniature: Path) -> None:
    annotations = miniature / "text_annotations" / "a2d_annotation_with_instances"
    cut, other = sorted(path for path in annotations.iterdir())[:2]
    video = miniature / "Release" / "clips320H" / f"{cut.name}.mp4"
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    broken = min(other.glob("*.h5"))
    broken.write_bytes(broken.read_bytes()[:100])
    code, found = check(acga, tmp_path / "store", *at(miniature))
    assert (code, found["ok"], len(found["errors"])) == (NO, False, 2)
    assert any(cut.name in error and "bytes are missing" in error for error in found["errors"])
    assert any(other.name in error and broken.name in error for error in found["errors"])
    assert found["rules"]["quarantined"] == 1
    code, found = check(acga, tmp_path / "store", *at(miniature), "--fast")
    assert (code, len(found["errors"])) == (NO, 1)  # the video is not decoded


def test_another_frame_count_than_declared_is_counted_by_rule(acga: Acga, tmp_path: Path, miniature: Path) -> None:
    path = miniature / "Release" / "videoset.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    spoken = {row.name for row in (miniature / "text_annotations" / "a2d_annotation_with_instances").iterdir()}
    chosen = next(line for line in lines if line[0] in spoken)
    chosen[6] = str(int(chosen[6]) + 1)
    path.write_text("".join(",".join(line) + "\n" for line in lines))
    code, found = check(acga, tmp_path / "store", *at(miniature))
    assert (code, found["rules"]["frame_count"]) == (0, 1)


def test_an_instance_that_a_frame_does_not_show_is_counted_by_rule(acga: Acga, tmp_path: Path, miniature: Path) -> None:
    with (miniature / "text_annotations" / "a2d_annotation.txt").open(newline="") as file:
        rows = list(csv.DictReader(file))
    labelled = Counter(row["video_id"] for row in rows)
    folder = miniature / "text_annotations" / "a2d_annotation_with_instances" / rows[0]["video_id"]
    path = min(folder.glob("*.h5"))
    with h5py.File(path, "r+") as file:
        count = len(file["instance"])
        del file["instance"]
        file["instance"] = np.arange(count) + 100
    code, found = check(acga, tmp_path / "store", *at(miniature), "--fast")
    assert (code, found["rules"]["absent_instance"]) == (0, labelled[rows[0]["video_id"]])
    assert found["samples"] == counted(miniature)[1]


def test_published_counts_are_held_against_the_files(acga: Acga, tmp_path: Path, miniature: Path) -> None:
    code, found = check(acga, tmp_path / "store", *at(miniature), "--fast", "--set", "dataset.expect=published")
    assert code == NO
    assert any("3782" in error for error in found["errors"]) and any("15747" in error for error in found["errors"])


def test_a_missing_folder_is_an_error_of_the_check(acga: Acga, tmp_path: Path) -> None:
    code, found = check(acga, tmp_path / "store", "--set", "dataset.root=/no/such/folder")
    assert code == NO and all("/no/such/folder" in error for error in found["errors"]) and found["errors"]


def test_the_table_is_for_people(acga: Acga, tmp_path: Path, miniature: Path) -> None:
    done: Finished = acga("check", acga.config, "--store", tmp_path / "store", *at(miniature), "--fast")
    assert done.code == 0
    assert "videos not decoded" in done.output and "query_cleaned" in done.output and "no errors" in done.output


def test_the_sheet_shows_the_labelled_frame_with_its_masks(acga: Acga, tmp_path: Path, miniature: Path) -> None:
    annotations = miniature / "text_annotations" / "a2d_annotation_with_instances"
    video = min(path.name for path in annotations.iterdir() if not path.name.startswith("-"))
    sheet = tmp_path / "sheet.png"
    arguments = ("check", acga.config, "--store", tmp_path / "store", "--json", *at(miniature))
    done = acga(*arguments, "--sheet", sheet, "--video", video)
    assert done.code == 0, done.errors
    assert done.document == {"sheet": str(sheet)}
    picture = cv2.imread(str(sheet))
    clips = len(list((annotations / video).glob("*.h5")))
    assert picture is not None and picture.shape == (clips * 4 * (240 + 18), 4 * 240, 3)
    # The ninth frame of each clip is the labelled one: its caption alone is dark on white.
    corners = [(clip * 4 + row, column) for clip in range(clips) for row in range(4) for column in range(4)]
    captions = [picture[258 * row + 1, 240 * column + 1].mean() for row, column in corners]
    assert [place for place, shade in enumerate(captions) if shade > 200] == [16 * clip + 8 for clip in range(clips)]


def test_a_sheet_needs_its_video(acga: Acga, tmp_path: Path, miniature: Path) -> None:
    arguments = ("check", acga.config, "--store", tmp_path / "store", *at(miniature), "--sheet", tmp_path / "s.png")
    alone = acga(*arguments)
    assert alone.code == USAGE and "--video" in alone.errors
    unknown = acga(*arguments, "--video", "nosuchvideo")
    assert unknown.code == USAGE and "nosuchvideo" in unknown.errors
    assert json.dumps(unknown.output) == '""'
