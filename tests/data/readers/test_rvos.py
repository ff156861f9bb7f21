"""The reader of the layouts of Ref-YouTube-VOS, MeViS and Ref-DAVIS17: what it reads."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from rvos_roots import (
    FRAMES,
    changed,
    davis_root,
    mevis_root,
    numbers,
    write,
    youtube_file,
    youtube_root,
)

from data import datasets
from data.readers.annotations import (
    EmptyAnnotations,
    MissingFile,
    UnknownExclusion,
)
from data.readers.rvos import reader
from data.readers.rvos.labelled_frames import Choice, UnknownChoice
from data.readers.sentence_table import BadFolder


@pytest.fixture
def youtube(tmp_path: Path) -> Path:
    return youtube_root(tmp_path)


@pytest.fixture
def mevis(tmp_path: Path) -> Path:
    return mevis_root(tmp_path)


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    return davis_root(tmp_path)


def test_ref_youtube_vos(youtube: Path) -> None:
    found = datasets.read("rvos", youtube, "train", {}, "every:1")
    dog, cat = found.videos
    assert (dog.id, dog.path, dog.split) == ("dog", f"{youtube}/train/JPEGImages/dog", "train")
    assert (dog.height, dog.width, dog.frames) == (12, 20, 4) and not dog.unions and not dog.labels
    assert [frame.number for frame in dog.labelled] == [1, 2, 3, 4]
    assert [(frame.number, frame.path) for frame in cat.labelled] == [
        (2, f"{youtube}/train/Annotations/cat/00005.png"),
        (3, f"{youtube}/train/Annotations/cat/00010.png"),
    ]
    assert [(query.id, query.instance, query.text) for query in found.queries] == [
        ("dog/1/0", 1, "the left one"),
        ("dog/2/2", 2, "on the right"),
        ("cat/1/1", 1, "a cat"),
    ]
    assert found.hits == {}
    instances = datasets.read_instances("rvos", Path(cat.labelled[0].path), 2, 12, 20, cat.unions)
    assert instances.ids == (1, 2) and np.array_equal(instances.masks[1], numbers() == 2)


def test_mevis_means_unions_of_objects(mevis: Path) -> None:
    found = datasets.read("rvos", mevis, "test", {}, "even:2")
    (walk,) = found.videos
    path = str(mevis / "valid_u" / "mask_dict.json")
    assert [(frame.number, frame.path) for frame in walk.labelled] == [(2, path), (4, path)]
    assert walk.unions == {1: ("7", "8"), 2: ("8",)} and (walk.height, walk.width, walk.split) == (12, 20, "test")
    assert [query.id for query in found.queries] == ["walk/1/0", "walk/2/1", "walk/1/2"]
    second, fourth = (datasets.read_instances("rvos", Path(path), n, 12, 20, walk.unions) for n in (2, 4))
    assert second.ids == (1, 2) and second.hits == () and second.labels == (0, 0)
    assert np.array_equal(second.masks[0], numbers() > 0) and np.array_equal(second.masks[1], numbers() == 2)
    assert fourth.ids == (1,) and np.array_equal(fourth.masks[0], numbers() == 1)


def test_ref_davis_as_distributed(davis: Path) -> None:
    (bear,) = reader.read(davis, "train", {}, "even").videos
    assert bear.path == f"{davis}/DAVIS/JPEGImages/480p/bear" and [f.number for f in bear.labelled] == [1, 2, 3]
    assert bear.labelled[1].path == f"{davis}/DAVIS/Annotations/480p/bear/00001.png"
    found = reader.read(davis, "test", {}, "even")
    assert [(query.id, query.text) for query in found.queries] == [
        *((f"car-turn/1/{place}", f"a car {place}") for place in range(4)),
        *((f"car-turn/2/{4 + place}", f"caf\xe9 {place}") for place in range(4)),
    ]
    assert [video.split for video in reader.read(davis, "all", {}, "even").videos] == ["train", "test"]


def test_ref_davis_as_converted_gives_the_same(davis: Path, tmp_path: Path) -> None:
    distributed, root = reader.read(davis, "test", {}, "even"), tmp_path / "converted"
    for folder in ("JPEGImages", "Annotations"):
        shutil.copytree(davis / "DAVIS" / folder / "480p" / "car-turn", root / "valid" / folder / "car-turn")
    expressions = {
        str(query.ordinal): {"exp": query.text, "obj_id": str(query.instance)} for query in distributed.queries
    }
    video = {"frames": ["00000", "00001", "00002"], "expressions": expressions}
    write(youtube_file(root, "valid"), {"videos": {"car-turn": video}})
    converted = reader.read(root, "test", {}, "even")
    assert [(q.id, q.text) for q in converted.queries] == [(q.id, q.text) for q in distributed.queries]
    for ours, theirs in zip(converted.videos, distributed.videos, strict=True):
        assert [frame.number for frame in ours.labelled] == [frame.number for frame in theirs.labelled]


def test_test_is_valid_or_else_test(youtube: Path) -> None:
    with pytest.raises(MissingFile, match="the split test of a data set of kind rvos is the folder valid or test"):
        reader.read(youtube, "test", {}, "even")
    shutil.copytree(youtube / "train", youtube / "test")
    shutil.copytree(youtube / "meta_expressions" / "train", youtube / "meta_expressions" / "test")
    assert reader.read(youtube, "test", {}, "even").videos[0].path == f"{youtube}/test/JPEGImages/dog"
    with pytest.raises(BadFolder, match="both have the video cat"):
        reader.read(youtube, "all", {}, "even")


@pytest.mark.parametrize(
    ("written", "count", "chosen"),
    [
        ("every:1", 5, [0, 1, 2, 3, 4]),
        ("every:2", 5, [0, 2, 4]),
        ("every:9", 5, [0]),
        ("even", 6, [1, 3, 5]),
        ("even", 36, [6, 18, 30]),
        ("even:1", 5, [2]),
        ("even:4", 3, [0, 1, 2]),
    ],
)
def test_labelled_frames_are_chosen(written: str, count: int, chosen: list[int]) -> None:
    assert list(Choice.parse(written).of(range(count))) == chosen


@pytest.mark.parametrize("written", ["", "all", "every", "every:0", "even:-1", "even:x", "every:1 ", "list.json"])
def test_other_choices_are_refused(youtube: Path, written: str) -> None:
    with pytest.raises(UnknownChoice, match=r"expected even:N .* every:N"):
        reader.read(youtube, "train", {}, written)


def test_what_is_left_out_is_listed(youtube: Path) -> None:
    changed(lambda videos: videos["dog"].update(expressions={}))(youtube)
    changed(lambda videos: videos["cat"].update(frames=FRAMES[:2]))(youtube)
    found = reader.read(youtube, "train", {}, "every:1")
    assert [frame.number for frame in found.videos[0].labelled] == [2]
    assert found.hits == {
        "no_sentence": ("dog",),
        "unlisted_frame": ("cat: 2 pictures, 00010 ...", "cat: 1 mask, 00010 ..."),
    }
    with pytest.raises(EmptyAnnotations, match="no video of the split train has an expression"):
        reader.read(youtube, "train", {"cat": "blurred"}, "even")
    with pytest.raises(UnknownExclusion, match="names cow"):
        reader.read(youtube, "train", {"cow": "x"}, "even")


def test_an_excluded_video_of_another_split_is_known(youtube: Path) -> None:
    (youtube / "valid" / "JPEGImages" / "owl").mkdir(parents=True)
    found = reader.read(youtube, "train", {"owl": "dark", "cat": "small"}, "even")
    assert found.hits == {"excluded": ("cat: small",)}
