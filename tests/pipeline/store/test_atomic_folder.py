"""A folder is there whole or not at all."""

from pathlib import Path

import pytest

from pipeline.store import atomic_folder


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    wanted = tmp_path / "deep" / "wanted"
    with atomic_folder.atomic_folder(wanted) as folder:
        (folder / "file").write_text("one")
        assert not wanted.exists()
    assert [path.name for path in wanted.parent.iterdir()] == ["wanted"]
    assert (wanted / "file").read_text() == "one"


def test_what_fails_leaves_nothing_and_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "wanted.part").mkdir()
    with pytest.raises(RuntimeError, match="half way"), atomic_folder.atomic_folder(tmp_path / "wanted") as folder:
        (folder / "file").write_text("half")
        raise RuntimeError("half way")
    assert [path.name for path in tmp_path.iterdir()] == ["wanted.part"]


def test_a_name_that_is_taken_meanwhile_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="wanted"), atomic_folder.atomic_folder(tmp_path / "wanted"):
        (tmp_path / "wanted").mkdir()
        (tmp_path / "wanted" / "theirs").write_text("theirs")
    assert [path.name for path in tmp_path.rglob("*")] == ["wanted", "theirs"]
