"""Bad input: one clear line, the right exit code, never a traceback, and nothing lost."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import Acga, Finished

USAGE, FAILED = 2, 3


def one_line(done: Finished, code: int) -> str:
    """The complaint of a command that must end with `code`."""
    assert done.code == code, done.errors
    assert done.output == ""
    assert "Traceback" not in done.errors
    complaints = [line for line in done.errors.splitlines() if line.startswith("acga: ")]
    assert len(complaints) == 1, done.errors
    return complaints[0]


def run(acga: Acga, store: Path, *overrides: str) -> Finished:
    return acga("run", acga.config, "--store", store, "--json", *(part for key in overrides for part in ("--set", key)))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataset.root=/no/such/folder", ("dataset.root", "/no/such/folder", "no such folder")),
        ("training.learning_rate=1", ("unknown key", "training.learning_rate")),
        ("visual.weights=/no/such/weights.pt", ("visual.weights", "/no/such/weights.pt", "no such file")),
        ("model.checkpoint=/no/such/model.pt", ("model.checkpoint", "no such file")),
        ("text.vectors=/no/such/vectors.bin", ("text.vectors", "no such file")),
        ("dataset.exclude={ nosuchvideo = 'x' }", ("nosuchvideo",)),
    ],
)
def test_what_the_config_names_must_be_there(acga: Acga, tmp_path: Path, override: str, words: tuple[str, ...]) -> None:
    complaint = one_line(run(acga, tmp_path / "store", override), USAGE)
    assert all(word in complaint for word in words), complaint


def test_a_command_line_that_is_wrong_ends_with_usage(acga: Acga, tmp_path: Path) -> None:
    assert acga("run").code == USAGE
    assert acga("run", tmp_path / "none.toml").code == USAGE
    assert acga("fly", acga.config).code == USAGE
    assert acga("run", acga.config, "--workers", "0").code == USAGE


def test_an_empty_annotation_file_is_refused(acga: Acga, tmp_path: Path, miniature: Path) -> None:
    (miniature / "text_annotations" / "a2d_annotation.txt").write_text("")
    complaint = one_line(run(acga, tmp_path / "store", f"dataset.root={miniature}"), USAGE)
    assert "a2d_annotation.txt" in complaint


def first_video(miniature: Path) -> Path:
    """The file of a video that has sentences."""
    videos = (miniature / "Release" / "clips320H").glob("*.mp4")
    annotated = {path.name for path in (miniature / "text_annotations" / "a2d_annotation_with_instances").iterdir()}
    return min(path for path in videos if path.stem in annotated)


def masks_of(miniature: Path) -> Path:
    folder = miniature / "text_annotations" / "a2d_annotation_with_instances" / first_video(miniature).stem
    return min(folder.glob("*.h5"))


def truncate(miniature: Path) -> None:
    path = first_video(miniature)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def not_a_video(miniature: Path) -> None:
    first_video(miniature).write_text("not a video")


def other_size(miniature: Path) -> None:
    with h5py.File(masks_of(miniature), "r+") as file:
        del file["reMask"]
        file["reMask"] = np.ones((20, 30), np.uint8)


def no_masks(miniature: Path) -> None:
    with h5py.File(masks_of(miniature), "r+") as file:
        del file["reMask"]


def cut_masks(miniature: Path) -> None:
    path = masks_of(miniature)
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize("damage", [truncate, not_a_video, other_size, no_masks, cut_masks])
def test_a_damaged_file_fails_its_stage_by_name_and_the_rest_stays(
    acga: Acga, tmp_path: Path, miniature: Path, damage: Callable[[Path], None]
) -> None:
    damage(miniature)
    complaint = one_line(run(acga, tmp_path / "store", f"dataset.root={miniature}"), FAILED)
    assert first_video(miniature).stem in complaint
    stage = "Frames" if damage in (truncate, not_a_video) else "Masks"
    assert complaint.startswith(f"acga: {stage} ")
    assert list((tmp_path / "store" / "TextFeatures").glob("*/manifest.json"))


def test_a_device_that_is_not_there_is_an_error(acga: Acga, tmp_path: Path) -> None:
    complaint = one_line(run(acga, tmp_path / "store", "compute.device='cuda:63'"), USAGE)
    assert "compute.device" in complaint
