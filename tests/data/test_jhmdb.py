"""J-HMDB and JHMDB-Sentences as they are distributed."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from data import datasets, jhmdb
from data.annotations import (
    EmptyAnnotations,
    MalformedAnnotations,
    MaskSizeMismatch,
    MissingFile,
    UnknownExclusion,
    UnknownSplit,
)
from data.defects import Hits

NAME = "A_(B)!_@2+_walk_f_cm_np1"


def write_jhmdb(root: Path, sentences: str) -> None:
    """Two walking videos: NAME as a folder of PNG files, `b_walk` as an AVI file; 15 masks each."""
    root.mkdir(exist_ok=True)
    (root / "jhmdb_annotation.txt").write_bytes(("video_id,query\n" + sentences).encode())
    for name in (NAME, "b_walk"):
        folder = root / "puppet_mask" / "walk" / name
        folder.mkdir(parents=True)
        masks = (np.arange(6 * 8 * 15).reshape(6, 8, 15) % 7 == 0).astype(np.float64)
        scipy.io.savemat(folder / "puppet_mask.mat", {"part_mask": masks})
    (root / "Rename_Images" / "walk" / NAME).mkdir(parents=True)
    (root / "ReCompress_Videos" / "walk").mkdir(parents=True)
    (root / "ReCompress_Videos" / "walk" / "b_walk.avi").write_bytes(b"never opened by a listing")


def test_a_listing_holds_the_videos_with_three_labelled_frames(tmp_path: Path) -> None:
    write_jhmdb(tmp_path, f"{NAME}, Man  walking\nnowhere,a ghost\n")
    listing = jhmdb.read(tmp_path, "test", {})
    (video,), (query,) = listing.videos, listing.queries
    assert (video.id, video.split, video.height, video.width, video.frames) == (NAME, "test", 6, 8, 15)
    assert video.path == str(tmp_path / "Rename_Images" / "walk" / NAME)
    assert [frame.number for frame in video.labelled] == [3, 8, 13]
    assert {frame.path for frame in video.labelled} == {
        str(tmp_path / "puppet_mask" / "walk" / NAME / "puppet_mask.mat")
    }
    assert (query.id, query.text, query.row) == (f"{NAME}/0", "man walking", 2)
    assert listing.hits == {
        "no_sentence": ("b_walk",),
        "sentence_without_video": ("line 3: nowhere/0",),
        "query_cleaned": (f"line 2: {NAME}/0",),
    }


def test_a_video_may_be_a_file_and_may_be_excluded(tmp_path: Path) -> None:
    write_jhmdb(tmp_path, f"{NAME},man walking\nb_walk,woman walking\n")
    listing = jhmdb.read(tmp_path, "all", {NAME: "no licence"})
    assert [video.path for video in listing.videos] == [str(tmp_path / "ReCompress_Videos" / "walk" / "b_walk.avi")]
    assert listing.hits == {"excluded": (f"{NAME}: no licence",)}


@pytest.mark.parametrize("frames", range(1, 60))
def test_labelled_frames_lie_in_the_middle_of_the_thirds(frames: int) -> None:
    numbers = jhmdb.labelled_numbers(frames)
    assert numbers == tuple(int((2 * k + 1) * frames / 6) + 1 for k in range(3))
    assert 1 <= numbers[0] <= numbers[1] <= numbers[2] <= frames


def test_a_mask_is_the_slice_of_its_frame(tmp_path: Path) -> None:
    write_jhmdb(tmp_path, f"{NAME},man walking\n")
    path = tmp_path / "puppet_mask" / "walk" / NAME / "puppet_mask.mat"
    found = jhmdb.read_instances(path, 8, 6, 8)
    assert (found.ids, found.labels) == ((0,), (0,))
    np.testing.assert_array_equal(found.masks[0], scipy.io.loadmat(path)["part_mask"][:, :, 7])
    with pytest.raises(MaskSizeMismatch, match=r"labelled frame 8 .*a mask of 6 x 8, but the video is 8 x 6"):
        jhmdb.read_instances(path, 8, 8, 6)
    with pytest.raises(MalformedAnnotations, match="masks of frames 1 to 15"):
        jhmdb.read_instances(path, 16, 6, 8)


def test_unknown_splits_and_exclusions_and_empty_listings_are_errors(tmp_path: Path) -> None:
    write_jhmdb(tmp_path, f"{NAME},man walking\n")
    with pytest.raises(UnknownSplit, match="'train'"):
        jhmdb.read(tmp_path, "train", {})
    with pytest.raises(UnknownExclusion, match="typo"):
        jhmdb.read(tmp_path, "test", {"typo": "no reason"})
    with pytest.raises(EmptyAnnotations, match="2 videos, 1 sentences"):
        jhmdb.read(tmp_path, "test", {NAME: "the only one"})


def test_missing_and_malformed_files_are_errors_that_name_them(tmp_path: Path) -> None:
    write_jhmdb(tmp_path, f"{NAME},man walking\n")
    (tmp_path / "Rename_Images" / "walk" / NAME).rmdir()
    with pytest.raises(MissingFile, match=r"video A_\(B\).*expected the folder .* or the file .*\.avi"):
        jhmdb.read(tmp_path, "test", {})
    path = tmp_path / "puppet_mask" / "walk" / NAME / "puppet_mask.mat"
    whole = path.read_bytes()
    for short in (b"", b"MATLAB 5.0 MAT-file, cut short"):
        path.write_bytes(short)
        with pytest.raises(MalformedAnnotations, match="not a MATLAB v5 file"):
            jhmdb.read(tmp_path, "test", {})
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MalformedAnnotations, match=r"labelled frame 8 .*do not read"):
        jhmdb.read_instances(path, 8, 6, 8)
    scipy.io.savemat(path, {"part_mask": np.ones((6, 8))})
    with pytest.raises(MalformedAnnotations, match=r"part_mask \(6, 8\)"):
        jhmdb.read(tmp_path, "test", {})
    path.unlink()
    with pytest.raises(MissingFile, match=r"puppet_mask\.mat"):
        jhmdb.read(tmp_path, "test", {})


def test_the_official_sentences_have_the_published_counts(shared: Path) -> None:
    queries = jhmdb.read_queries(shared / "annotations" / "jhmdb_annotation.txt", Hits())
    assert len(queries) == len({query.video for query in queries}) == 928
    assert len({word for query in queries for word in query.text.split()}) == 267


def test_the_real_clips_list_and_read(shared: Path) -> None:
    listing = datasets.read("jhmdb", shared / "real" / "jhmdb", "test", {})
    assert (len(listing.videos), len(listing.queries), listing.hits) == (42, 42, {})
    for video in listing.videos[::10]:
        assert (video.height, video.width) == (240, 320)
        stored = scipy.io.loadmat(video.labelled[0].path)["part_mask"]
        assert video.frames == stored.shape[2]
        for frame in video.labelled:
            found = datasets.read_instances("jhmdb", Path(frame.path), frame.number, video.height, video.width)
            np.testing.assert_array_equal(found.masks[0], stored[:, :, frame.number - 1])
