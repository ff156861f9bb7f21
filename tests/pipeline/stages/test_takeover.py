"""Within a shard, unchanged videos are taken over from earlier artifacts."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import Acga
from stores import manifests

STAGES = ("Frames", "Masks", "VisualFeatures")


def videos(root: Path) -> list[str]:
    """The ids of a data set's videos."""
    return [line.partition(",")[0] for line in (root / "Release" / "videoset.csv").read_text().splitlines()]


def replace_first_video(root: Path) -> str:
    """Put the second video in the place of the first, whose id is returned."""
    first, second, *_ = videos(root)
    folder = root / "Release" / "clips320H"
    shutil.copyfile(folder / f"{second}.mp4", folder / f"{first}.mp4")
    return first


def build(acga: Acga, store: Path, root: Path) -> dict[str, Any]:
    return acga.run(store, "--set", f"dataset.root={root}", "--until", "VisualFeatures")


@pytest.fixture(scope="module")
def fresh(acga: Acga, finished: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set with a replaced video, and a store in which everything of it was made anew."""
    (source,) = (path for path in (finished.store / "miniature").iterdir() if path.is_dir())
    root = Path(shutil.copytree(source, tmp_path_factory.mktemp("changed") / "miniature"))
    replace_first_video(root)
    store = root.parent / "store"
    build(acga, store, root)
    return root, store


def made(store: Path, before: set[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """What a run added to a store, by stages that are made video by video."""
    return {
        key: manifest for key, manifest in manifests(store).items() if key not in before and manifest["stage"] in STAGES
    }


def assert_equal_files(store: Path, other: Path, keys: set[tuple[str, str]]) -> None:
    ours, theirs = manifests(store), manifests(other)
    for key in keys:
        assert ours[key]["content"] == theirs[key]["content"], key
        files, expected = ours[key]["files"], theirs[key]["files"]
        assert {name: file["sha256"] for name, file in files.items()} == {
            name: file["sha256"] for name, file in expected.items()
        }, key


def test_one_replaced_video_costs_one_video(acga: Acga, store: Path, fresh: tuple[Path, Path]) -> None:
    root, anew = fresh
    before = set(manifests(store))
    build(acga, store, root)
    found = made(store, before)
    assert sorted(manifest["stage"] for manifest in found.values()) == ["Frames", "VisualFeatures"]
    for manifest in found.values():
        assert manifest["cost"]["units"] == len(manifest["units"]) > 1
        assert manifest["cost"]["taken_over"] == manifest["cost"]["units"] - 1
    assert_equal_files(store, anew, set(found))


@pytest.mark.slow
def test_shards_of_another_number_are_put_together_from_those_there(acga: Acga, store: Path, tmp_path: Path) -> None:
    before = set(manifests(store))
    acga.run(store, "--set", "dataset.shards=3", "--until", "VisualFeatures")
    found = made(store, before)
    assert found and all(each["cost"]["taken_over"] == each["cost"]["units"] for each in found.values())
    acga.run(tmp_path / "anew", "--set", "dataset.shards=3", "--until", "VisualFeatures")
    assert_equal_files(store, tmp_path / "anew", set(found))


@pytest.mark.slow
def test_what_was_damaged_is_not_taken_over(acga: Acga, store: Path, fresh: tuple[Path, Path]) -> None:
    root, anew = fresh
    before = set(manifests(store))
    for (stage, key), manifest in manifests(store).items():
        if stage in STAGES:
            for path in (store / stage / key[:16] / manifest["attempt"]).glob("*.h5"):
                content = bytearray(path.read_bytes())
                for place in range(len(content) // 4, len(content), 97):
                    content[place] ^= 0x55
                path.write_bytes(content)
    build(acga, store, root)
    found = made(store, before)
    assert {manifest["stage"] for manifest in found.values()} == {"Frames", "VisualFeatures"}
    assert all(manifest["cost"]["taken_over"] == 0 for manifest in found.values())
    assert_equal_files(store, anew, set(found))
