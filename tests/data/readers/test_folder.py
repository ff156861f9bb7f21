"""The reader of a data set of one's own: what it reads, and what it says of 40 damaged or odd ones."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_folder import save
from PIL import Image

from data import datasets
from data.masks import encode_rle
from data.readers import folder
from data.readers.annotations import MalformedAnnotations, MaskSizeMismatch, MissingFile, UnknownExclusion, UnknownSplit
from data.readers.folder import Share
from data.readers.sentence_table import SHOWN, BadFolder

HEADER = "video,instance,sentence\n"
SHARE = Share(0.5, 0)


def numbers(height: int = 12, width: int = 20) -> np.ndarray:
    """Two instances: 1 on the left, 2 on the right."""
    drawn = np.zeros((height, width), np.uint8)
    drawn[2:8, 1:6], drawn[3:9, 12:18] = 1, 2
    return drawn


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of two videos: a file with two labelled frames, and a folder of three pictures with one."""
    (tmp_path / "videos" / "walk").mkdir(parents=True)
    (tmp_path / "videos" / "clip.mp4").write_bytes(b"never opened here")
    for name in ("a.jpg", "b.jpg", "c.png"):
        Image.fromarray(np.zeros((12, 20, 3), np.uint8)).save(tmp_path / "videos" / "walk" / name)
    for video, frames in {"clip": (3, 10), "walk": (2,)}.items():
        (tmp_path / "masks" / video).mkdir(parents=True)
        for frame in frames:
            save(numbers(), tmp_path / "masks" / video / f"{frame}.png")
    write(tmp_path, HEADER + "clip,1,The left One\nclip,2,the right one\nclip,2,another\nwalk,1,a walker\n")
    return tmp_path


def write(root: Path, text: str) -> None:
    (root / "sentences.csv").write_text(text, encoding="utf-8")


def findings(root: Path) -> tuple[str, ...]:
    with pytest.raises(BadFolder) as bad:
        folder.read(root, "all", {}, SHARE)
    return bad.value.findings


def test_videos_and_sentences_are_read(root: Path) -> None:
    found = datasets.read("folder", root, "all", {}, "even", SHARE)
    clip, walk = found.videos
    assert (clip.id, clip.path, clip.height, clip.width, clip.frames) == ("clip", f"{root}/videos/clip.mp4", 12, 20, 0)
    assert [(frame.number, frame.path) for frame in clip.labelled] == [
        (3, f"{root}/masks/clip/3.png"),
        (10, f"{root}/masks/clip/10.png"),
    ]
    assert (walk.frames, [frame.number for frame in walk.labelled]) == (3, [2])
    assert [(query.id, query.text, query.row) for query in found.queries] == [
        ("clip/1", "the left one", 2),
        ("clip/2/0", "the right one", 3),
        ("clip/2/1", "another", 4),
        ("walk/1", "a walker", 5),
    ]
    assert found.hits == {}


def test_masks_are_read_from_pictures_and_from_run_lengths(root: Path) -> None:
    drawn = numbers()
    document = {"3": {str(each): encode_rle((drawn == each).astype(np.uint8)) for each in (2, 1)}}
    document["3"]["7"] = {"size": [12, 20], "counts": [100, 5, 135]}  # not compressed
    (root / "masks" / "clip.json").write_text(json.dumps(document))
    for path, ids in ((root / "masks/clip/3.png", (1, 2)), (root / "masks/clip.json", (1, 2, 7))):
        found = datasets.read_instances("folder", path, 3, 12, 20)
        assert found.ids == ids and found.labels == (0,) * len(ids) and found.hits == ()
        assert all(np.array_equal(mask, drawn == each) for each, mask in zip((1, 2), found.masks, strict=False))
    assert found.masks[2].sum() == 5


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "P"])
def test_every_kind_of_numbers_is_read(root: Path, mode: str) -> None:
    path = root / "masks" / "walk" / "2.png"
    drawn = (numbers() > 0).astype(np.uint8)
    picture = Image.fromarray(
        drawn.astype(bool) if mode == "1" else drawn.astype(np.uint16 if ";" in mode else np.uint8)
    )
    (picture if mode != "P" else picture.convert("P")).save(path)
    found = folder.read_instances(path, 2, 12, 20)
    assert found.ids == (1,) and np.array_equal(found.masks[0], drawn)


def test_the_optional_columns(root: Path) -> None:
    write(
        root,
        "sentence;x\n".replace(";x", ",video,instance,split,frames,actor,action,group")
        + '"left, or so",clip,1,train,3;9-11,Dog,walking,colour\nright,clip,2,train,,,,\nw,walk,1,test,2,adult,,\n',
    )
    write(root, (root / "sentences.csv").read_text().replace("3;9-11", "10"))
    found = folder.read(root, "train", {}, SHARE)
    assert [video.id for video in found.videos] == ["clip"] and found.videos[0].labels == {1: 78}
    left, right = found.queries
    assert (left.text, left.frames, left.group) == ("left, or so", (10,), "colour")
    assert (right.frames, right.group) == (None, "")
    (test,) = folder.read(root, "test", {}, SHARE).videos
    assert test.id == "walk" and test.labels == {1: 19}


def test_frames_that_no_sentence_is_about_are_left_out(root: Path) -> None:
    write(root, "video,instance,sentence,frames\nclip,1,left,10\n")
    assert [frame.number for frame in folder.read(root, "all", {}, SHARE).videos[0].labelled] == [10]


def test_a_share_is_drawn_by_video_and_depends_on_no_other() -> None:
    share = Share(0.25, 3)
    drawn = {f"v{number}": share.split_of(f"v{number}") for number in range(2000)}
    assert 0.22 < list(drawn.values()).count("test") / 2000 < 0.28
    assert drawn != {video: Share(0.25, 4).split_of(video) for video in drawn}
    assert {Share(0.0, 0).split_of(video) for video in drawn} == {"train"}
    assert {Share(1.0, 0).split_of(video) for video in drawn} == {"test"}


def test_excluded_videos_and_videos_without_sentence_are_listed(root: Path) -> None:
    write(root, HEADER + "clip,1,left\n")
    assert folder.read(root, "all", {}, SHARE).hits == {"no_sentence": ("walk",)}
    write(root, HEADER + "clip,1,left\nwalk,1,right\n")
    assert folder.read(root, "all", {"walk": "blurred"}, SHARE).hits == {"excluded": ("walk: blurred",)}
    with pytest.raises(UnknownExclusion, match="run"):
        folder.read(root, "all", {"run": "x"}, SHARE)


def test_a_byte_order_mark_and_other_line_ends_are_accepted(root: Path) -> None:
    (root / "sentences.csv").write_bytes(b"\xef\xbb\xbf" + HEADER.replace("\n", "\r\n").encode() + b"clip,1,left\r\n")
    assert [query.text for query in folder.read(root, "all", {}, SHARE).queries] == ["left"]


def replaced(line: str) -> Callable[[Path], None]:
    return lambda root: write(root, HEADER + "clip,1,left\n" + line + "\n")


def with_split(rows: str) -> Callable[[Path], None]:
    return lambda root: write(root, "video,instance,sentence,split\n" + rows)


def column(name: str, value: str) -> Callable[[Path], None]:
    return lambda root: write(root, f"video,instance,sentence,{name}\nclip,1,left,{value}\n")


def mask(picture: Image.Image) -> Callable[[Path], None]:
    return lambda root: picture.save(root / "masks" / "walk" / "2.png")


def run_lengths(document: object) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        for path in (root / "masks" / "walk").iterdir():
            path.unlink()
        text = document if isinstance(document, str) else json.dumps(document)
        (root / "masks" / "walk.json").write_text(text)

    return damage


def latin(root: Path) -> None:
    (root / "sentences.csv").write_bytes(HEADER.encode() + b"clip,1,left\nwalk,1,caf\xe9\n")


RGB = Image.fromarray(np.zeros((12, 20, 3), np.uint8))
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "unknown video": (
        replaced("wlak,1,x"),
        "sentences.csv, line 3: video 'wlak' is not in videos/; did you mean walk?",
    ),
    "no such video": (replaced("q,1,x"), "line 3: video 'q' is not in videos/; add the video, or remove the line"),
    "a path": (replaced("../walk,1,x"), "line 3: the video '../walk' can name no file"),
    "instance 0": (replaced("walk,0,x"), "line 3: instance '0'; give a whole number from 1 to 65535"),
    "instance word": (replaced("walk,one,x"), "line 3: instance 'one'"),
    "instance -1": (replaced("walk,-1,x"), "line 3: instance '-1'"),
    "instance 70000": (replaced("walk,70000,x"), "line 3: instance '70000'"),
    "no sentence": (replaced("walk,1,"), "line 3: the sentence '' has no word"),
    "a dash": (replaced("walk,1, - "), "line 3: the sentence '-' has no word"),
    "commas": (
        replaced("walk,1,red, and blue"),
        "line 3: more cells than columns; put a sentence with commas in double",
    ),
    "few cells": (replaced("walk,1"), "line 3: fewer cells than columns"),
    "twice": (replaced("clip,1,LEFT"), "line 3: the same sentence as on line 2; remove one of the lines"),
    "quotes": (replaced('walk,1,"open'), "sentences.csv, line 3: no row of a CSV file"),
    "latin-1": (latin, "sentences.csv, line 3: byte 0xe9 is no UTF-8; save it as UTF-8"),
    "empty": (
        lambda root: write(root, ""),
        "sentences.csv: the file is empty; begin it with a line video,instance,sen",
    ),
    "no rows": (lambda root: write(root, HEADER), "sentences.csv: no sentence; add one a line"),
    "no column": (lambda root: write(root, "video,instance\nclip,1\n"), "line 1: no column sentence"),
    "no header": (lambda root: write(root, "clip,1,left\n"), "an unknown column 'clip'"),
    "misspelt": (column("splits", "train"), "an unknown column 'splits'; did you mean split?"),
    "two columns": (column("video", "walk"), "two columns video; remove one"),
    "split": (with_split("clip,1,left,valid\n"), "line 2: split 'valid'; give train or test"),
    "two splits": (
        with_split("clip,1,left,train\nclip,2,right,test\n"),
        "line 3: clip is in split 'test', but in 'train' on line 2; choose one",
    ),
    "frames": (column("frames", "3-"), "line 2: frames '3-'; give frame numbers from 1, such as 3;10-14"),
    "frames back": (column("frames", "9-3"), "line 2: frames '9-3'"),
    "frame 0": (column("frames", "0"), "line 2: frames '0'"),
    "frame without mask": (column("frames", "3;4"), "line 2: frame 4 of clip has no mask; add masks/clip/4.png"),
    "actor": (column("actor", "squid"), "line 2: actor 'squid'; give one of adult, baby"),
    "action": (lambda r: write(r, HEADER.strip() + ",actor,action\nclip,1,left,dog,barking\n"), "action 'barking'"),
    "no label": (lambda r: write(r, HEADER.strip() + ",actor,action\nclip,1,left,car,eating\n"), "A2D has no such"),
    "two files": (
        lambda root: (root / "videos" / "clip.avi").touch(),
        "videos/clip.mp4: clip.avi is the video clip, too",
    ),
    "no pictures": (
        lambda root: [path.unlink() for path in (root / "videos" / "walk").iterdir()],
        "videos/walk: holds no picture; put PNG or JPEG files there",
    ),
    "two pictures": (
        lambda root: (root / "videos" / "walk" / "a.png").touch(),
        "walk: two pictures are named a; expected one a frame",
    ),
    "beyond the end": (
        lambda root: save(numbers(), root / "masks/walk/4.png"),
        "masks/walk: frame 4, but the video has 3",
    ),
    "no mask": (
        lambda root: (root / "masks/walk/2.png").unlink(),
        "masks/walk: no mask; add masks/walk/<frame>.png or",
    ),
    "name": (
        lambda root: save(numbers(), root / "masks/walk/two.png"),
        "masks/walk/two.png: the name is no frame number",
    ),
    "mask 0": (
        lambda root: save(numbers(), root / "masks/walk/0.png"),
        "masks/walk/0.png: the name is no frame number",
    ),
    "mask jpg": (lambda root: (root / "masks/walk/2.jpg").touch(), "masks/walk/2.jpg: the name is no frame number"),
    "mask twice": (
        lambda root: save(numbers(), root / "masks/walk/002.png"),
        "masks/walk/2.png: frame 2 is there twice",
    ),
    "rgb": (mask(RGB), "its pixels are RGB; expected an indexed or grey PNG file"),
    "alpha": (mask(RGB.convert("RGBA")), "its pixels are RGB with transparency"),
    "no png": (lambda root: (root / "masks/walk/2.png").write_bytes(b"GIF89a" * 9), "not a PNG file"),
    "both": (lambda root: (root / "masks/walk.json").write_text("{}"), "masks/walk: both a folder and walk.json"),
    "no json": (run_lengths("{"), "walk.json: not JSON"),
    "a list": (run_lengths([1]), 'walk.json: no frames; expected {"<frame>": {"<instance>": run lengths}}'),
    "frame word": (run_lengths({"two": {"1": {}}}), "walk.json: frame 'two'"),
    "instance 0, json": (run_lengths({"2": {"0": {}}}), "walk.json: frame '2' with {'0': {}}"),
    "no size": (run_lengths({"2": {"1": {"counts": "0"}}}), "frame 2: size = None; expected [height, width]"),
    "no instance": (run_lengths({"2": {}}), "walk.json: frame 2 has no instance"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_wrong_is_told_with_its_place_and_what_to_do(root: Path, name: str) -> None:
    damage, said = DAMAGES[name]
    damage(root)
    found = findings(root)
    assert any(said in line for line in found), found
    assert all(line.startswith(str(root)) and "\n" not in line for line in found)
    assert len(found) == 1 or name in ("no header", "beyond the end"), found


def test_all_problems_come_at_once_up_to_fifty(root: Path) -> None:
    write(root, HEADER + "".join(f"clip,0,row {row}\n" for row in range(SHOWN + 7)) + "clip,1,left\n")
    found = findings(root)
    assert len(found) == SHOWN + 1 and found[-1] == f"{root}: and 7 problems more"
    assert [int(line.split("line ")[1].split(":")[0]) for line in found[:-1]] == list(range(2, SHOWN + 2))


def test_folders_that_are_not_there_are_named(root: Path) -> None:
    with pytest.raises(UnknownSplit, match="valid"):
        folder.read(root, "valid", {}, SHARE)
    write(root, HEADER + "clip,1,left\n")
    with pytest.raises(MalformedAnnotations, match="no video of the split test"):
        folder.read(root, "test", {}, Share(0.0, 0))
    (root / "sentences.csv").unlink()
    with pytest.raises(MissingFile, match=r"sentences\.csv"):
        folder.read(root, "all", {}, SHARE)


def test_damaged_masks_are_refused_when_they_are_read(root: Path) -> None:
    path = root / "masks" / "walk" / "2.png"
    with pytest.raises(MaskSizeMismatch, match="a mask of 12 x 20, but the video is 24 x 40"):
        folder.read_instances(path, 2, 24, 40)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(MalformedAnnotations, match=r"2\.png: a damaged PNG file"):
        folder.read_instances(path, 2, 12, 20)


@pytest.mark.parametrize("counts", ["", [], [240.0], [10, 5], "0" * 50, None, [-1, 241], "~~~"])
def test_run_lengths_that_are_no_mask_are_refused(root: Path, counts: object) -> None:
    path = root / "masks" / "walk.json"
    path.write_text(json.dumps({"2": {"1": {"size": [12, 20], "counts": counts}}}))
    with pytest.raises(MalformedAnnotations, match="frame 2, instance 1: counts: "):
        folder.read_instances(path, 2, 12, 20)
