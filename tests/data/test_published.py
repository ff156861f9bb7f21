"""Published counts, and one's own files held against them."""

import csv
from dataclasses import fields, replace
from pathlib import Path

import pytest

from data import datasets
from data.datasets import UnknownKind
from data.miniature import a2d_layout, jhmdb_layout
from data.published import COUNTS, Counts, check, count

LABELLED = 3


def test_the_published_counts_fit_each_other() -> None:
    a2d, jhmdb = COUNTS["a2d"], COUNTS["jhmdb"]
    assert a2d == Counts(3782, 6655, 3017, 737, 15747, 3800)
    assert (jhmdb.videos, jhmdb.test_videos, jhmdb.test_samples) == (928, 928, 2784)
    assert a2d.videos == 3017 + 737 + 28  # the missed ones
    assert jhmdb.test_samples == LABELLED * 928
    assert (jhmdb.train_videos, jhmdb.train_samples) == (None, None)


@pytest.mark.parametrize("kind", list(COUNTS))
def test_equal_counts_and_those_that_were_not_made_give_no_message(kind: str) -> None:
    assert check(kind, COUNTS[kind]) == ()
    assert check(kind, Counts()) == ()
    for field in fields(Counts):
        assert check(kind, replace(COUNTS[kind], **{field.name: None})) == ()


def test_a_message_says_which_count_what_was_found_and_expected_and_what_to_do() -> None:
    (message,) = check("a2d", replace(COUNTS["a2d"], test_samples=3799))
    assert message.startswith("A2D-Sentences: 3799 test samples; published 3800. Fetch")
    assert '[dataset].expect = "none"' in message


@pytest.mark.parametrize("kind", list(COUNTS))
def test_each_count_is_compared(kind: str) -> None:
    messages = set()
    for field in fields(Counts):
        published = getattr(COUNTS[kind], field.name)
        if published is not None:
            (message,) = check(kind, replace(COUNTS[kind], **{field.name: published + 1}))
            assert f"{published + 1} " in message and f"published {published}." in message
            messages.add(message)
    assert len(messages) == {"a2d": 6, "jhmdb": 4}[kind]
    assert len(check(kind, Counts(0, 0, 0, 0, 0, 0))) == len(messages)


def test_the_miniatures_are_counted_as_they_were_made(tmp_path: Path) -> None:
    spec = a2d_layout.Spec(seed=2, train_clips=4, test_clips=2, size=48, frames=24, labels=1)
    a2d_layout.write(tmp_path / "a2d", spec)
    listings = {split: datasets.read("a2d", tmp_path / "a2d", split, {}) for split in ("train", "test")}
    sentences = sum(len(scene.sentences) for scene in a2d_layout.scenes(spec))
    assert count("a2d", tmp_path / "a2d", listings, {"test": 9}) == Counts(7, sentences, 4, 2, None, 9)
    jhmdb_layout.write(tmp_path / "jhmdb", jhmdb_layout.Spec(seed=2, clips=3, width=64, frames=15))
    listings = {"test": datasets.read("jhmdb", tmp_path / "jhmdb", "test", {})}
    assert count("jhmdb", tmp_path / "jhmdb", listings, {}) == Counts(3, 3, None, 3)


def test_sentences_that_a_rule_drops_are_counted(tmp_path: Path) -> None:
    spec = jhmdb_layout.Spec(seed=2, clips=2, width=64, frames=15)
    jhmdb_layout.write(tmp_path / "set", spec)
    with (tmp_path / "set" / "jhmdb_annotation.txt").open("a") as file:
        file.write("elsewhere,a ghost\nelsewhere,\n")
    assert count("jhmdb", tmp_path / "set", {}, {}) == Counts(2, 4)


def test_an_unknown_kind_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownKind, match=r"'a3d'.*a2d, jhmdb"):
        check("a3d", Counts())
    with pytest.raises(UnknownKind, match=r"'a3d'.*a2d, jhmdb"):
        count("a3d", tmp_path, {}, {})


def test_a_catalogue_of_a2ds_size_with_the_real_sentences_has_the_published_counts(
    tmp_path: Path, shared: Path
) -> None:
    with (shared / "annotations" / "a2d_annotation.txt").open(newline="") as file:
        spoken_of = list(dict.fromkeys(row["video_id"] for row in csv.DictReader(file)))
    missed = (shared / "annotations" / "a2d_missed_videos.txt").read_text().split()
    (tmp_path / "Release" / "clips320H").mkdir(parents=True)
    for name in ("a2d_annotation.txt", "a2d_missed_videos.txt"):
        (tmp_path / name).write_bytes((shared / "annotations" / name).read_bytes())
    lines = []
    for index, video in enumerate([*spoken_of, *missed]):  # which of them are for the test is not in these files
        usage = int(3017 <= index < 3017 + 737 or index >= len(spoken_of) + 19)
        lines.append(f"{video},11,00:00:00,00:00:02,320,568,60,1,{usage}\n")
        (tmp_path / "Release" / "clips320H" / f"{video}.mp4").write_bytes(b"")
        folder = tmp_path / "a2d_annotation_with_instances" / video
        folder.mkdir(parents=True)
        (folder / "00010.h5").write_bytes(b"")
    (tmp_path / "Release" / "videoset.csv").write_text("".join(lines))
    listings = {split: datasets.read("a2d", tmp_path, split, {}) for split in ("train", "test")}
    assert check("a2d", count("a2d", tmp_path, listings, {})) == ()
    assert [len(listings[split].hits["missed_video"]) for split in ("train", "test")] == [19, 9]
    lines.pop(0)
    (tmp_path / "Release" / "videoset.csv").write_text("".join(lines))
    listings = {split: datasets.read("a2d", tmp_path, split, {}) for split in ("train", "test")}
    messages = check("a2d", count("a2d", tmp_path, listings, {}))
    assert [message.split("; ")[0] for message in messages] == [
        "A2D-Sentences: 3781 videos in videoset.csv",
        "A2D-Sentences: 3016 train videos with sentences",
    ]
