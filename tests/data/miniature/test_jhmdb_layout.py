"""The miniature in J-HMDB's layout: its files are J-HMDB's in kind, and our reader gives what they hold."""

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from data.miniature.drawing import pictures
from data.miniature.jhmdb_layout import DEFAULT, BadSpec, Clip, FolderNotEmpty, Spec, clips, write
from data.readers import jhmdb


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("jhmdb") / "set"
    write(root, DEFAULT)
    return root


def test_the_files_lie_as_those_of_jhmdb(written: Path) -> None:
    found = clips(DEFAULT)
    assert len(found) == 5 and len({clip.id for clip in found}) == 5
    with (written / "jhmdb_annotation.txt").open(newline="") as file:
        assert list(csv.reader(file)) == [["video_id", "query"], *([clip.id, clip.sentence] for clip in found)]
    expected = {"jhmdb_annotation.txt"}
    for clip in found:
        expected.add(f"puppet_mask/{clip.action}/{clip.id}/puppet_mask.mat")
        for number in range(1, clip.scene.frames + 1):
            expected.add(f"Rename_Images/{clip.action}/{clip.id}/{number:05d}.png")
    assert {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()} == expected


def test_the_names_have_jhmdbs_signs_and_the_action_within() -> None:
    found = clips(DEFAULT)
    assert set("()!@+") <= set("".join(clip.id for clip in found))
    assert all(f"_{clip.action}_" in clip.id for clip in found)
    assert all(len(clip.scene.actors) == 1 for clip in found)


def test_the_first_clip_alone_has_more_pictures_than_masks() -> None:
    first, *others = clips(DEFAULT)
    assert (first.masks, first.scene.frames) == (24, 26)
    assert [(clip.masks, clip.scene.frames) for clip in others] == [(21, 21), (18, 18), (15, 15), (24, 24)]


def test_the_masks_are_matlab_arrays_of_the_drawn_actor(written: Path) -> None:
    for clip in clips(DEFAULT):
        path = written / "puppet_mask" / clip.action / clip.id / "puppet_mask.mat"
        assert path.read_bytes()[:14] == b"MATLAB 5.0 MAT" and b"Created on" not in path.read_bytes()[:116]
        ((name, shape, kind),) = scipy.io.whosmat(path)
        assert (name, shape, kind) == ("part_mask", (72, 96, clip.masks), "uint8")
        masks = scipy.io.loadmat(path)["part_mask"]
        assert masks.flags.f_contiguous and set(np.unique(masks)) == {0, 1}
        assert masks.any(axis=(0, 1)).all()
        drawn = [picture.masks[0, 12:84] for picture in pictures(clip.scene, 96)]
        np.testing.assert_array_equal(masks, np.stack(drawn[: clip.masks], axis=2))


def test_the_pictures_are_the_drawn_ones_in_their_colours(written: Path) -> None:
    for clip in clips(DEFAULT)[:2]:
        folder = written / "Rename_Images" / clip.action / clip.id
        for number, picture in enumerate(pictures(clip.scene, 96), start=1):
            image = cv2.imread(str(folder / f"{number:05d}.png"))
            np.testing.assert_array_equal(image[:, :, ::-1], picture.image[12:84])


def test_our_reader_gives_what_scipy_and_csv_read_pixel_for_pixel(written: Path) -> None:
    listing = jhmdb.read(written, "test", {})
    assert [video.id for video in listing.videos] == [clip.id for clip in clips(DEFAULT)]
    assert [query.text for query in listing.queries] == [" ".join(c.sentence.lower().split()) for c in clips(DEFAULT)]
    assert listing.hits.get("beyond_last_mask") == (f"{listing.videos[0].id}: 26 frames, 24 masks",)
    samples = 0
    for video in listing.videos:
        masks = scipy.io.loadmat(video.labelled[0].path)["part_mask"]
        assert (video.height, video.width, video.frames) == masks.shape
        for frame in video.labelled:
            found = jhmdb.read_instances(Path(frame.path), frame.number, 72, 96)
            np.testing.assert_array_equal(found.masks, masks[None, :, :, frame.number - 1])
            assert found.hits == ()
            samples += 1
    assert samples == 15


def test_the_same_spec_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    spec = Spec(seed=3, clips=2, width=64, frames=15)
    for name, made in (("one", spec), ("two", spec), ("three", replace(spec, seed=4))):
        write(tmp_path / name, made)
    assert hashed(tmp_path / "one") == hashed(tmp_path / "two")
    assert hashed(tmp_path / "one") != hashed(tmp_path / "three")


def test_more_clips_leave_the_first_ones_as_they_were() -> None:
    many = clips(Spec(seed=3, clips=30, width=64, frames=15))
    assert len({clip.id for clip in many}) == 30
    assert many[:4] == clips(Spec(seed=3, clips=4, width=64, frames=15))
    assert all(isinstance(clip, Clip) for clip in many)


def test_progress_counts_the_clips_and_a_full_folder_is_refused(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    spec = Spec(seed=3, clips=2, width=64, frames=15)
    write(tmp_path / "set", spec, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    with pytest.raises(FolderNotEmpty, match="set is not empty"):
        write(tmp_path / "set", spec)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"width": 60}, "width 60 px"),
        ({"width": 100}, "a multiple of 8"),
        ({"frames": 14}, "14 frames; expected 15 to 40"),
        ({"frames": 41}, "41 frames"),
        ({"clips": 0}, "0 clips"),
    ],
)
def test_a_spec_that_jhmdb_could_not_have_is_an_error(changed: dict[str, int], says: str) -> None:
    with pytest.raises(BadSpec, match=says):
        replace(DEFAULT, **changed)


def hashed(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
