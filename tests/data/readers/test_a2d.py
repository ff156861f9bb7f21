"""A2D and A2D-Sentences as they are distributed, their oddities included."""

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest

from data.defects import RULES, Hits
from data.miniature import a2d_layout
from data.miniature.scenes import VALID_ACTIONS
from data.readers import a2d
from data.readers.annotations import (
    EmptyAnnotations,
    MalformedAnnotations,
    MaskSizeMismatch,
    MissingFile,
    UnknownExclusion,
    UnknownSplit,
    clean,
)
from data.records import ACTIONS, LABELS, LabelledFrame, Listing, UnknownLabel, split_label

HEADER = "video_id,instance_id,query\n"
VIDEOSET = """-abcdefghij,44,00:00:00,00:00:02,6,8,60,2,0
_bcdefghijk,11,00:00:00,00:00:02,6,8,60,1,1
silent_____,11,00:00:00,00:00:02,6,8,60,1,0
missed_____,11,00:00:00,00:00:02,6,8,60,1,0
"""
SENTENCES = (
    HEADER + "-abcdefghij,0,  The Bird  flies\n-abcdefghij,0,a bird, in the air\n-abcdefghij,1 (copy),the bird flies\n"
    "_bcdefghijk,1,man climbing\nnowhere____,0,a ghost\n"
)


def write_masks(path: Path, masks: np.ndarray, instances: list[float], labels: list[float] | None = None) -> None:
    """An annotation file as MATLAB leaves it: axes reversed, two of them where there is one mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        stored = masks.transpose(0, 2, 1)
        file["reMask"] = stored[0] if len(stored) == 1 else stored
        file["instance"] = np.array(instances)
        if labels is not None:
            file["id"] = np.array([labels])


def write_a2d(root: Path, videoset: str, sentences: str, texts: str = "") -> None:
    """A data set whose two spoken-of videos have labelled frames 10 and 20, and 10."""
    clips, beside = root / "Release" / "clips320H", root / texts
    clips.mkdir(parents=True)
    beside.mkdir(parents=True, exist_ok=True)
    (root / "Release" / "videoset.csv").write_bytes(videoset.encode())
    (beside / "a2d_annotation.txt").write_bytes(sentences.encode())
    (beside / "a2d_missed_videos.txt").write_text("missed_____\nnever______")
    annotations = beside / "a2d_annotation_with_instances"
    for video, numbers in {"-abcdefghij": (10, 20), "_bcdefghijk": (10,)}.items():
        (clips / f"{video}.mp4").write_bytes(b"never opened by a listing")
        for number in numbers:
            write_masks(annotations / video / f"{number:05d}.h5", np.ones((1, 6, 8), np.uint8), [0])


@pytest.mark.parametrize("texts", ["", "text_annotations", "Release"])
def test_a_listing_holds_the_spoken_of_videos_of_a_split_with_their_cleaned_sentences(
    tmp_path: Path, texts: str
) -> None:
    write_a2d(tmp_path, VIDEOSET, SENTENCES, texts)
    listing = a2d.read(tmp_path, "train", {})
    (video,) = listing.videos
    folder = tmp_path / texts / "a2d_annotation_with_instances" / "-abcdefghij"
    assert (video.id, video.split, video.height, video.width, video.frames) == ("-abcdefghij", "train", 6, 8, 60)
    assert video.path == str(tmp_path / "Release" / "clips320H" / "-abcdefghij.mp4")
    assert video.labelled == (
        LabelledFrame(10, str(folder / "00010.h5")),
        LabelledFrame(20, str(folder / "00020.h5")),
    )
    assert [(query.id, query.text, query.row) for query in listing.queries] == [
        ("-abcdefghij/0/0", "the bird flies", 2),
        ("-abcdefghij/0/1", "a bird, in the air", 3),
    ]


@pytest.mark.parametrize("name", ["clips320h", "CLIPS320H", "CLIPS320", "clips320"])
def test_the_folder_of_the_clips_may_be_written_as_the_code_of_others_writes_it(tmp_path: Path, name: str) -> None:
    write_a2d(tmp_path, VIDEOSET, SENTENCES)
    (tmp_path / "Release" / "clips320H").rename(tmp_path / "Release" / name)
    (video,) = a2d.read(tmp_path, "train", {}).videos
    assert video.path == str(tmp_path / "Release" / name / "-abcdefghij.mp4")
    (tmp_path / "Release" / "clips320H").mkdir()  # the documented name is preferred, though it holds nothing
    with pytest.raises(MissingFile, match=r"no .*clips320H/-abcdefghij\.mp4"):
        a2d.read(tmp_path, "train", {})


def test_what_is_left_out_is_counted_by_rule(tmp_path: Path) -> None:
    write_a2d(tmp_path, VIDEOSET, SENTENCES)
    listing = a2d.read(tmp_path, "all", {"_bcdefghijk": "looks odd"})
    assert [video.id for video in listing.videos] == ["-abcdefghij"]
    assert listing.hits == {
        "missed_video": ("missed_____",),
        "missed_video_unknown": ("never______",),
        "excluded": ("_bcdefghijk: looks odd",),
        "no_sentence": ("silent_____",),
        "sentence_without_video": ("line 6: nowhere____/0",),
        "copied_row": ("line 4: -abcdefghij/1 (copy)",),
        "query_cleaned": ("line 2: -abcdefghij/0",),
    }
    assert set(listing.hits) <= set(RULES)


def test_the_splits_part_the_videos(tmp_path: Path) -> None:
    write_a2d(tmp_path, VIDEOSET, SENTENCES)
    ids = {split: [video.id for video in a2d.read(tmp_path, split, {}).videos] for split in ("train", "test", "all")}
    assert ids == {"train": ["-abcdefghij"], "test": ["_bcdefghijk"], "all": ["-abcdefghij", "_bcdefghijk"]}


def test_a_byte_order_mark_windows_line_ends_and_a_header_change_nothing(tmp_path: Path) -> None:
    write_a2d(tmp_path / "plain", VIDEOSET, SENTENCES)
    header = "VID,Label,Start,End,Height,Width,FramesCut,AnnotatedFrames,Usage\n"
    windows = [("\ufeff" + text).replace("\n", "\r\n") for text in (header + VIDEOSET, SENTENCES)]
    write_a2d(tmp_path / "windows", *windows)
    plain, other = (a2d.read(tmp_path / name, "all", {}) for name in ("plain", "windows"))
    assert other.queries == plain.queries
    assert [video.id for video in other.videos] == [video.id for video in plain.videos]
    assert other.hits == {"header_line": ("videoset.csv, line 1",)} | plain.hits


def test_labelled_frames_that_differ_from_the_declared_ones_are_counted(tmp_path: Path) -> None:
    videoset = VIDEOSET.replace("6,8,60,2,0", "6,8,15,3,0")
    write_a2d(tmp_path, videoset, SENTENCES)
    hits = a2d.read(tmp_path, "train", {}).hits
    assert hits["labelled_count"] == ("-abcdefghij: 2 files, 3 declared",)
    assert hits["labelled_beyond"] == ("-abcdefghij: labelled frame 20, 15 frames declared",)


@pytest.mark.parametrize(
    ("remove", "says"),
    [
        ("Release/videoset.csv", "videoset.csv"),
        ("a2d_annotation.txt", "text_annotations"),
        ("Release/clips320H/-abcdefghij.mp4", "1 of 1 video is missing, first -abcdefghij"),
        ("a2d_annotation_with_instances/-abcdefghij/*.h5", "video -abcdefghij: no labelled frame"),
    ],
)
def test_a_missing_file_is_named_with_its_place(tmp_path: Path, remove: str, says: str) -> None:
    write_a2d(tmp_path, VIDEOSET, SENTENCES)
    for path in tmp_path.glob(remove):
        path.unlink()
    with pytest.raises(MissingFile, match=says):
        a2d.read(tmp_path, "train", {})


def test_an_annotation_file_of_an_odd_name_is_an_error_but_hidden_and_other_files_are_not(tmp_path: Path) -> None:
    write_a2d(tmp_path, VIDEOSET, SENTENCES)
    folder = tmp_path / "a2d_annotation_with_instances" / "-abcdefghij"
    for name in ("._00010.h5", ".DS_Store", "00030.mat", "notes.txt"):
        (folder / name).write_bytes(b"")
    (video,) = a2d.read(tmp_path, "train", {}).videos
    assert [frame.number for frame in video.labelled] == [10, 20]
    (folder / "30.h5").write_bytes(b"")
    with pytest.raises(MalformedAnnotations, match=r"-abcdefghij/30\.h5; expected <%05d>\.h5"):
        a2d.read(tmp_path, "train", {})


def test_the_missed_videos_file_may_be_absent(tmp_path: Path) -> None:
    write_a2d(tmp_path, VIDEOSET, SENTENCES)
    (tmp_path / "a2d_missed_videos.txt").unlink()
    assert "missed_video" not in a2d.read(tmp_path, "all", {}).hits


def test_the_missed_videos_come_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a2d_missed_videos.txt"
    path.write_text("one________ \n\ntwo________")
    assert a2d.read_missed(path) == ("one________", "two________")
    path.write_text("one________,two________")
    with pytest.raises(MalformedAnnotations, match="line 1: 2 columns; expected one video id"):
        a2d.read_missed(path)


@pytest.mark.parametrize(
    ("videoset", "sentences", "error", "says"),
    [
        (VIDEOSET, "", EmptyAnnotations, "the file is empty"),
        (VIDEOSET, HEADER, EmptyAnnotations, "no sentence"),
        ("", SENTENCES, EmptyAnnotations, "no videos"),
        (VIDEOSET, HEADER + "nowhere____,0,a ghost\n", EmptyAnnotations, "no video of split train has a sentence"),
        (VIDEOSET, "video_id,instance_id,short_query,query\n", MalformedAnnotations, "short_query"),
        (VIDEOSET, HEADER + "-abcdefghij,first,bird\n", MalformedAnnotations, "line 2.*instance id is no number"),
        (VIDEOSET, HEADER + "-abcdefghij,0\n", MalformedAnnotations, "line 2: 2 columns"),
        (VIDEOSET * 2, SENTENCES, MalformedAnnotations, "line 5: video -abcdefghij is listed twice"),
        (VIDEOSET.replace(",0\n", ",2\n", 1), SENTENCES, MalformedAnnotations, "line 1: usage '2'"),
        (VIDEOSET.replace(",8,", ",wide,", 1), SENTENCES, MalformedAnnotations, "line 1: .*wide"),
        ("a,b,c\n", SENTENCES, MalformedAnnotations, "line 1: 3 columns"),
    ],
)
def test_a_malformed_text_file_is_an_error_that_names_the_line(
    tmp_path: Path, videoset: str, sentences: str, error: type[Exception], says: str
) -> None:
    write_a2d(tmp_path, videoset, sentences)
    with pytest.raises(error, match=says):
        a2d.read(tmp_path, "train", {})


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path) -> None:
    write_a2d(tmp_path, VIDEOSET, SENTENCES)
    (tmp_path / "a2d_annotation.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MalformedAnnotations, match="not UTF-8"):
        a2d.read(tmp_path, "train", {})


def test_an_unknown_split_or_excluded_video_is_an_error(tmp_path: Path) -> None:
    write_a2d(tmp_path, VIDEOSET, SENTENCES)
    with pytest.raises(UnknownSplit, match="'val'"):
        a2d.read(tmp_path, "val", {})
    with pytest.raises(UnknownExclusion, match="-zzz"):
        a2d.read(tmp_path, "train", {"-zzz": "typo"})


def test_masks_come_upright_with_their_ids_and_labels(tmp_path: Path) -> None:
    masks = np.zeros((2, 4, 6), np.uint8)
    masks[0, 1, 5], masks[1, 3, 0] = 1, 1
    write_masks(tmp_path / "v" / "00010.h5", masks, [2.0, 0.0], [11.0, 79.0])
    found = a2d.read_instances(tmp_path / "v" / "00010.h5", 4, 6)
    assert (found.ids, found.labels, found.hits) == ((2, 0), (11, 79), ())
    np.testing.assert_array_equal(found.masks, masks)


def test_one_mask_is_stored_with_two_axes_and_labels_may_be_absent(tmp_path: Path) -> None:
    mask = (np.arange(24).reshape(1, 4, 6) % 5 == 0).astype(np.uint8)
    write_masks(tmp_path / "v" / "00010.h5", mask, [3])
    found = a2d.read_instances(tmp_path / "v" / "00010.h5", 4, 6)
    assert (found.ids, found.labels) == ((3,), (0,))
    np.testing.assert_array_equal(found.masks, mask)


def test_of_a_duplicate_id_the_first_mask_wins_and_surplus_masks_are_dropped(tmp_path: Path) -> None:
    masks = np.zeros((4, 4, 6), np.uint8)
    masks[0, 0], masks[1, 1], masks[2, 2], masks[3, 3] = 1, 1, 1, 1
    write_masks(tmp_path / "v" / "00010.h5", masks, [0, 1, 0], [11, 12, 13])
    found = a2d.read_instances(tmp_path / "v" / "00010.h5", 4, 6)
    assert (found.ids, found.labels) == ((0, 1), (11, 12))
    assert found.hits == ("duplicate_instance", "surplus_mask")
    np.testing.assert_array_equal(found.masks, masks[:2])


def test_empty_and_overlapping_masks_are_used_as_they_are_and_counted(tmp_path: Path) -> None:
    path, masks = tmp_path / "v" / "00010.h5", np.zeros((3, 4, 6), np.uint8)
    masks[0, :2], masks[1, 1:3], masks[2, 3] = 1, 1, 1
    write_masks(path, masks, [0, 1, 2])
    assert a2d.read_instances(path, 4, 6).hits == ("overlapping_masks",)
    masks[1] = 0
    write_masks(path, masks, [0, 1, 2])
    found = a2d.read_instances(path, 4, 6)
    assert found.hits == ("empty_mask",)
    np.testing.assert_array_equal(found.masks, masks)


def test_masks_of_another_size_than_the_video_are_an_error(tmp_path: Path) -> None:
    write_masks(tmp_path / "vid" / "00010.h5", np.ones((1, 4, 6), np.uint8), [0])
    with pytest.raises(MaskSizeMismatch, match=r"video vid, labelled frame 00010 .*masks of 4 x 6.*video is 6 x 4"):
        a2d.read_instances(tmp_path / "vid" / "00010.h5", 6, 4)


def test_an_annotation_file_that_is_not_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "v" / "00010.h5"
    with pytest.raises(MissingFile, match="no such file"):
        a2d.read_instances(path, 4, 6)
    write_masks(path, np.ones((1, 4, 6), np.uint8), [0, 1])
    with pytest.raises(MalformedAnnotations, match="1 mask for 2 instance ids"):
        a2d.read_instances(path, 4, 6)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(MalformedAnnotations, match="not a readable HDF5 file"):
        a2d.read_instances(path, 4, 6)
    with h5py.File(path, "w") as file:
        file["reMask"] = np.ones((6, 4), np.uint8)
    with pytest.raises(MalformedAnnotations, match="expected reMask and instance"):
        a2d.read_instances(path, 4, 6)


def test_labels_part_into_actor_and_action() -> None:
    assert [split_label(label) for label in (79, 11, 0)] == [(7, 9), (1, 1), (0, 0)]
    for label in (5, 80, 10, 81, -11):
        with pytest.raises(UnknownLabel, match=str(label)):
            split_label(label)


def test_the_43_labels_are_those_that_the_miniature_draws() -> None:
    kinds = enumerate(VALID_ACTIONS.items(), start=1)
    drawn = [10 * actor + ACTIONS.index(action) + 1 for actor, (_, actions) in kinds for action in actions]
    assert len(LABELS) == 43 and sorted(drawn) == list(LABELS)


def test_the_official_sentences_have_the_published_counts(shared: Path) -> None:
    path, hits = shared / "annotations" / "a2d_annotation.txt", Hits()
    queries = a2d.read_queries(path, hits)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6655
    assert [query.text for query in queries] == [
        clean(row["query"]) for row in rows if "copy" not in row["instance_id"]
    ]
    assert hits.collected()["copied_row"] == ("line 3181: T6bNPuKV-wY/1 (copy)",)
    assert len({query.video for query in queries}) == 3754
    assert len({query.id for query in queries}) == 6654
    words = [query.text.split() for query in queries]
    assert (len({word for sentence in words for word in sentence}), max(map(len, words))) == (1311, 20)
    assert len(a2d.read_missed(shared / "annotations" / "a2d_missed_videos.txt")) == 28


def test_the_real_clips_list_as_their_files_say(shared: Path) -> None:
    root = shared / "real" / "a2d"
    train, test = (a2d.read(root, split, {}) for split in ("train", "test"))
    assert (len(train.videos), len(train.queries), len(test.videos), len(test.queries)) == (11, 11, 5, 7)
    assert test.hits["missed_video_unknown"] == ("zzzzzzzzzzz",)
    assert test.hits["copied_row"] == ("line 20: breakdance_/1 (copy)",)
    with (root / "Release" / "videoset.csv").open(newline="") as file:
        declared = {row[0]: row for row in csv.reader(file)}
    for video in (*train.videos, *test.videos):
        row = declared[video.id]
        assert [str(video.height), str(video.width), str(video.frames)] == row[4:7]
        assert video.split == {"0": "train", "1": "test"}[row[8]]
        assert [frame.number for frame in video.labelled] == [video.frames // 6 * step for step in (1, 2, 3)]


def test_the_samples_and_masks_of_the_real_clips_are_those_that_h5py_gives_pixel_for_pixel(shared: Path) -> None:
    root = shared / "real" / "a2d"
    assert read_samples(a2d.read(root, "all", {})) == stored_samples(root / "text_annotations")


def test_the_samples_and_masks_of_the_miniature_are_those_that_h5py_gives_pixel_for_pixel(tmp_path: Path) -> None:
    spec = a2d_layout.Spec(seed=4, train_clips=6, test_clips=4, size=64, frames=24, labels=2)
    a2d_layout.write(tmp_path / "set", spec, workers=1)
    found = read_samples(a2d.read(tmp_path / "set", "all", {}))
    assert len(found) > 30
    assert found == stored_samples(tmp_path / "set" / "text_annotations")


def read_samples(listing: Listing) -> dict[tuple[str, int, str], bytes]:
    """Video, labelled frame and cleaned sentence -> the bytes of its mask, upright."""
    found = {}
    for video in listing.videos:
        for frame in video.labelled:
            shown = a2d.read_instances(Path(frame.path), video.height, video.width)
            for query in listing.queries:
                if query.video == video.id and query.instance in shown.ids:
                    mask = shown.masks[shown.ids.index(query.instance)]
                    found[video.id, frame.number, query.text] = mask.tobytes()
    return found


def stored_samples(texts: Path) -> dict[tuple[str, int, str], bytes]:
    """The same out of the files, by MTTR's rules: masks transposed, with an axis more where there is one instance."""
    found = {}
    with (texts / "a2d_annotation.txt").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["instance_id"].isdigit()]
    for row in rows:
        for path in (texts / "a2d_annotation_with_instances" / row["video_id"]).glob("*.h5"):
            with h5py.File(path) as file:
                ids, masks = list(file["instance"]), np.array(file["reMask"])
            if len(ids) == 1:
                masks = masks[np.newaxis]
            if int(row["instance_id"]) in ids:
                mask = masks[ids.index(int(row["instance_id"]))].T
                sentence = " ".join(row["query"].lower().split())
                found[row["video_id"], int(path.stem), sentence] = (mask > 0).astype(np.uint8).tobytes()
    return found
