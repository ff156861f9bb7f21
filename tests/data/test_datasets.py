"""The data sets by kind."""

from pathlib import Path

import pytest

from data import datasets
from data.miniature import a2d_layout, jhmdb_layout
from data.readers import a2d, jhmdb


def test_each_kind_has_its_reader(tmp_path: Path) -> None:
    a2d_layout.write(
        tmp_path / "a2d", a2d_layout.Spec(seed=1, train_clips=2, test_clips=1, size=48, frames=24, labels=1)
    )
    jhmdb_layout.write(tmp_path / "jhmdb", jhmdb_layout.Spec(seed=1, clips=2, width=64, frames=15))
    for split in ("train", "test", "all"):
        found = datasets.read("a2d", tmp_path / "a2d", split, {}, "not looked at")
        assert found == a2d.read(tmp_path / "a2d", split, {})
    found = datasets.read("jhmdb", tmp_path / "jhmdb", "test", {})
    assert found == jhmdb.read(tmp_path / "jhmdb", "test", {}, "even")
    video = found.videos[0]
    frame = video.labelled[1]
    masks = datasets.read_instances("jhmdb", Path(frame.path), frame.number, video.height, video.width).masks
    assert (masks == jhmdb.read_instances(Path(frame.path), frame.number, 48, 64).masks).all()


def test_a_list_of_labelled_frames_reaches_the_reader_of_jhmdb(tmp_path: Path) -> None:
    jhmdb_layout.write(tmp_path / "jhmdb", jhmdb_layout.Spec(seed=1, clips=1, width=64, frames=15))
    with pytest.raises(FileNotFoundError, match=r"no file .*list\.json .*\[dataset\]\.labelled"):
        datasets.read("jhmdb", tmp_path / "jhmdb", "test", {}, tmp_path / "list.json")


def test_an_unknown_kind_of_data_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(datasets.UnknownKind, match="'a3d'"):
        datasets.read("a3d", tmp_path, "train", {})
    with pytest.raises(datasets.UnknownKind, match="a2d, jhmdb"):
        datasets.read_instances("a3d", tmp_path, 1, 4, 6)
