"""J-HMDB and JHMDB-Sentences as they are distributed."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from data.defects import Hits
from data.readers import jhmdb
from data.readers.annotations import (
    EmptyAnnotations,
    MalformedAnnotations,
    MalformedLabelledList,
    MaskSizeMismatch,
    MissingFile,
    UnknownExclusion,
    UnknownSplit,
    clean,
)

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
    pictures = root / "Rename_Images" / "walk" / NAME
    pictures.mkdir(parents=True)
    for number in range(1, 16):
        (pictures / f"{number:05d}.png").write_bytes(b"never opened by a listing")
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


def test_pictures_beyond_the_last_mask_are_counted_and_too_few_are_an_error(tmp_path: Path) -> None:
    write_jhmdb(tmp_path, f"{NAME},man walking\nb_walk,woman walking\n")
    pictures = tmp_path / "Rename_Images" / "walk" / NAME
    for name in ("00016.png", "00017.png", "._00001.png", "Thumbs.db"):
        (pictures / name).write_bytes(b"")
    listing = jhmdb.read(tmp_path, "test", {})
    assert listing.hits == {"beyond_last_mask": (f"{NAME}: 17 frames, 15 masks",)}
    assert [video.frames for video in listing.videos] == [15, 15]
    for number in (15, 16, 17):
        (pictures / f"{number:05d}.png").unlink()
    with pytest.raises(MissingFile, match=r"video A_\(B\).*14 pictures, but masks of 15 frames"):
        jhmdb.read(tmp_path, "test", {})


def test_a_picture_left_out_is_an_error_since_all_after_it_would_shift(tmp_path: Path) -> None:
    write_jhmdb(tmp_path, f"{NAME},man walking\n")
    pictures = tmp_path / "Rename_Images" / "walk" / NAME
    (pictures / "00016.png").write_bytes(b"")
    (pictures / "00007.png").unlink()
    with pytest.raises(MissingFile, match=r"video A_\(B\).*holds 00008\.png, but no 00007\.png"):
        jhmdb.read(tmp_path, "test", {})


def test_a_video_under_two_actions_is_an_error(tmp_path: Path) -> None:
    write_jhmdb(tmp_path, f"{NAME},man walking\n")
    shutil.copytree(tmp_path / "puppet_mask" / "walk", tmp_path / "puppet_mask" / "run")
    with pytest.raises(MalformedAnnotations, match=r"run/A_\(B\).* and .*walk/A_\(B\).*Remove one"):
        jhmdb.read(tmp_path, "test", {})


def test_a_list_names_the_labelled_frames(tmp_path: Path) -> None:
    write_jhmdb(tmp_path, f"{NAME},man walking\nb_walk,woman walking\n")
    path = tmp_path / "list.json"
    path.write_text(json.dumps(listed({NAME: (9, 2, 15), "b_walk": (1, 2, 3)})))
    for labelled in (path, str(path)):
        videos = jhmdb.read(tmp_path, "test", {}, labelled).videos
        assert [[frame.number for frame in video.labelled] for video in videos] == [[2, 9, 15], [1, 2, 3]]
    one = jhmdb.read(tmp_path, "test", {"b_walk": "no licence"}, path).videos
    assert [video.id for video in one] == [NAME]


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({NAME: (1, 2, 3)}, "no row for 1 video, first b_walk"),
        ({NAME: (1, 2, 3), "b_walk": (1, 2, 3), "c": (1, 2, 3)}, "1 video that puppet_mask does not hold, first c"),
        (
            {NAME: (1, 2, 3), "b_walk": (1, 2, 16)},
            "video b_walk: frames 1, 2, 16 of 16, .*last mask is that of frame 15",
        ),
    ],
)
def test_a_list_of_other_videos_or_frames_is_an_error(
    tmp_path: Path, chosen: dict[str, tuple[int, ...]], says: str
) -> None:
    write_jhmdb(tmp_path, f"{NAME},man walking\nb_walk,woman walking\n")
    path = tmp_path / "list.json"
    path.write_text(json.dumps(listed(chosen)))
    with pytest.raises(MalformedLabelledList, match=says):
        jhmdb.read(tmp_path, "test", {}, path)


def listed(chosen: dict[str, tuple[int, ...]]) -> list[list[object]]:
    """A list in MTTR's form."""
    return [
        [video, f"./jhmdb_sentences/Rename_Images/walk/{video}/{number:05d}.png", "", max(15, *numbers), "walking"]
        for video, numbers in chosen.items()
        for number in numbers
    ]


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
    with pytest.raises(MaskSizeMismatch, match=r"labelled frame 8 .*masks of 6 x 8, but the video is 8 x 6"):
        jhmdb.read_instances(path, 8, 8, 6)
    with pytest.raises(MalformedAnnotations, match="masks of frames 1 to 15"):
        jhmdb.read_instances(path, 16, 6, 8)


def test_unknown_splits_and_exclusions_and_empty_listings_are_errors(tmp_path: Path) -> None:
    write_jhmdb(tmp_path, f"{NAME},man walking\n")
    with pytest.raises(UnknownSplit, match="'train'"):
        jhmdb.read(tmp_path, "train", {})
    with pytest.raises(UnknownExclusion, match="typo"):
        jhmdb.read(tmp_path, "test", {"typo": "no reason"})
    with pytest.raises(EmptyAnnotations, match=r"2 videos, 1 sentence\)"):
        jhmdb.read(tmp_path, "test", {NAME: "the only one"})


def test_missing_and_malformed_files_are_errors_that_name_them(tmp_path: Path) -> None:
    write_jhmdb(tmp_path, f"{NAME},man walking\n")
    shutil.rmtree(tmp_path / "Rename_Images" / "walk" / NAME)
    with pytest.raises(MissingFile, match=r"video A_\(B\).*expected the folder .* or the file .*\.avi"):
        jhmdb.read(tmp_path, "test", {})
    path = tmp_path / "puppet_mask" / "walk" / NAME / "puppet_mask.mat"
    whole = path.read_bytes()
    for short in (b"", b"MATLAB 5.0 MAT-file, cut short"):
        path.write_bytes(short)
        with pytest.raises(MalformedAnnotations, match=r"video A_\(B\).*not a MATLAB v5 file"):
            jhmdb.read(tmp_path, "test", {})
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MalformedAnnotations, match=r"video A_\(B\).*it is cut short"):
        jhmdb.read(tmp_path, "test", {})
    scipy.io.savemat(path, {"part_mask": np.ones((6, 8))})
    with pytest.raises(MalformedAnnotations, match=r"part_mask has the shape \(6, 8\)"):
        jhmdb.read(tmp_path, "test", {})
    path.unlink()
    with pytest.raises(MissingFile, match=r"puppet_mask\.mat"):
        jhmdb.read(tmp_path, "test", {})


def test_the_official_sentences_have_the_published_counts(shared: Path) -> None:
    queries = jhmdb.read_queries(shared / "annotations" / "jhmdb_annotation.txt", Hits())
    assert len(queries) == len({query.video for query in queries}) == 928
    assert len({word for query in queries for word in query.text.split()}) == 267


def test_the_masks_of_the_real_clips_are_those_that_scipy_gives_pixel_for_pixel(shared: Path) -> None:
    root = shared / "real" / "jhmdb"
    listing = jhmdb.read(root, "test", {})
    with (root / "jhmdb_annotation.txt").open(newline="") as file:
        sentences = {row["video_id"]: clean(row["query"]) for row in csv.DictReader(file)}
    assert {query.video: query.text for query in listing.queries} == sentences
    assert (len(listing.videos), len(listing.queries), listing.hits) == (42, 42, {})
    for video in listing.videos:
        action = Path(video.path).parent.name
        assert f"_{action}_" in video.id
        stored = scipy.io.loadmat(root / "puppet_mask" / action / video.id / "puppet_mask.mat")["part_mask"]
        assert (video.height, video.width, video.frames) == stored.shape == (240, 320, video.frames)
        for frame in video.labelled:
            found = jhmdb.read_instances(Path(frame.path), frame.number, video.height, video.width)
            np.testing.assert_array_equal(found.masks[0], stored[:, :, frame.number - 1])
            assert found.hits == ()
