"""The reader of the layouts of Ref-YouTube-VOS, MeViS and Ref-DAVIS17, and what it says of damaged ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_folder import save
from PIL import Image

from data import datasets
from data.masks import encode_rle
from data.readers.annotations import (
    EmptyAnnotations,
    MalformedAnnotations,
    MaskSizeMismatch,
    MissingFile,
    UnknownExclusion,
    UnknownSplit,
)
from data.readers.rvos import reader
from data.readers.rvos.expressions import NoMasks
from data.readers.rvos.labelled_frames import Choice, UnknownChoice
from data.readers.sentence_table import SHOWN, BadFolder

FRAMES = ["00000", "00005", "00010", "00015"]
ANNOTATORS = ("annot1", "annot1_full_video", "annot2", "annot2_full_video")


def numbers(height: int = 12, width: int = 20) -> np.ndarray:
    """Two objects: 1 on the left, 2 on the right."""
    drawn = np.zeros((height, width), np.uint8)
    drawn[2:8, 1:6], drawn[3:9, 12:18] = 1, 2
    return drawn


def draw(folder: Path, frames: list[str], suffix: str) -> None:
    folder.mkdir(parents=True)
    for frame in frames:
        if suffix == ".jpg":
            Image.fromarray(np.zeros((12, 20, 3), np.uint8)).save(folder / f"{frame}.jpg")
        else:
            save(numbers(), folder / f"{frame}.png")


def write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def youtube_file(root: Path, folder: str = "train") -> Path:
    return root / "meta_expressions" / folder / "meta_expressions.json"


@pytest.fixture
def youtube(tmp_path: Path) -> Path:
    """Two videos with masks of all frames, and of two."""
    root = tmp_path / "youtube"
    for video, masked in {"dog": FRAMES, "cat": FRAMES[1:3]}.items():
        draw(root / "train" / "JPEGImages" / video, FRAMES, ".jpg")
        draw(root / "train" / "Annotations" / video, masked, ".png")
    dog = {"0": {"exp": "The left  one", "obj_id": "1"}, "2": {"exp": "on the right", "obj_id": 2}}
    cat = {"1": {"exp": "a cat", "obj_id": "1"}}
    videos = {name: {"frames": FRAMES, "expressions": each} for name, each in {"dog": dog, "cat": cat}.items()}
    write(youtube_file(root), {"videos": videos})
    return root


@pytest.fixture
def mevis(tmp_path: Path) -> Path:
    """A video of two objects, the second of which is in its first two frames."""
    root = tmp_path / "mevis"
    draw(root / "valid_u" / "JPEGImages" / "walk", FRAMES, ".jpg")
    expressions = {
        "0": {"exp": "both", "obj_id": [3, 5], "anno_id": [7, 8]},
        "1": {"exp": "the right", "obj_id": [5], "anno_id": [8]},
        "2": {"exp": "Two", "obj_id": [5, 3], "anno_id": ["8", "7"]},
    }
    videos = {"walk": {"frames": FRAMES, "expressions": expressions}}
    write(root / "valid_u" / "meta_expressions.json", {"videos": videos})
    write(root / "valid" / "meta_expressions.json", {"videos": {"x": {"expressions": {"0": {"exp": "a"}}}}})
    left, right = (encode_rle((numbers() == each).astype(np.uint8)) for each in (1, 2))
    write(root / "valid_u" / "mask_dict.json", {"7": [left] * 4, "8": [right, right, None, None]})
    return root


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """A video in each split, with the sentences of two annotators in four files."""
    root = tmp_path / "davis"
    for video in ("bear", "car-turn"):
        draw(root / "DAVIS" / "JPEGImages" / "480p" / video, ["00000", "00001", "00002"], ".jpg")
        draw(root / "DAVIS" / "Annotations" / "480p" / video, ["00000", "00001", "00002"], ".png")
    lists = root / "DAVIS" / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("bear\n")
    (lists / "val.txt").write_text("car-turn\n")
    (root / "davis_text_annotations").mkdir()
    for place, name in enumerate(ANNOTATORS):
        lines = [f'bear 1 "a bear {place}"', f'car-turn 1 "a Car {place}"', f'car-turn 2 "caf\xe9 {place}"']
        code = "latin-1" if place > 1 else "utf-8"
        text(root, name).write_bytes("\r\n".join(lines).encode(code))
    return root


def text(root: Path, annotator: str) -> Path:
    return root / "davis_text_annotations" / f"Davis17_{annotator}.txt"


def findings(root: Path, split: str = "train") -> tuple[str, ...]:
    with pytest.raises(BadFolder) as bad:
        reader.read(root, split, {}, "every:1")
    return bad.value.findings


# ---- what is read


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
    assert any("both have the video cat" in line for line in findings(youtube, "all"))


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


# ---- what is refused


def changed(change: Callable[[Any], object]) -> Callable[[Path], None]:
    """Change the videos of the only file of expressions."""

    def damage(root: Path) -> None:
        files = (youtube_file(root), root / "valid_u" / "meta_expressions.json")
        file = next(file for file in files if file.is_file())
        document = json.loads(file.read_text())
        change(document["videos"])
        write(file, document)

    return damage


def expression(**keys: object) -> Callable[[Path], None]:
    """Change the expression 0 of the video dog or walk; a value of None removes the key."""

    def change(videos: Any) -> None:
        found = videos["dog" if "dog" in videos else "walk"]["expressions"]["0"]
        found.update(keys)
        for key in [key for key, value in found.items() if value is None]:
            del found[key]

    return changed(change)


def dog(**keys: object) -> Callable[[Path], None]:
    return changed(lambda videos: videos["dog"].update(keys))


def renamed(key: str) -> Callable[[Path], None]:
    return changed(lambda v: v["dog"]["expressions"].update({key: v["dog"]["expressions"].pop("0")}))


PLACE = "meta_expressions/train/meta_expressions.json, video dog"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no exp": (expression(exp=None), f"{PLACE}, expression 0: exp = null; write a sentence"),
    "exp 7": (expression(exp=7), f"{PLACE}, expression 0: exp = 7"),
    "empty exp": (expression(exp=" - "), f"{PLACE}, expression 0: exp ' - ' has no word; write a sentence"),
    "no obj_id": (expression(obj_id=None), f"{PLACE}, expression 0: obj_id = null; give the object's number in the"),
    "obj_id 0": (expression(obj_id="0"), "expression 0: obj_id = '0'; give the object's number in the masks, from 1"),
    "obj_id 256": (expression(obj_id=256), "expression 0: obj_id = 256"),
    "obj_id list": (expression(obj_id=[1]), "expression 0: obj_id = [1]"),
    "obj_id bool": (expression(obj_id=True), "expression 0: obj_id = true"),
    "obj_id float": (expression(obj_id=1.0), "expression 0: obj_id = 1.0"),
    "key": (renamed("first"), "its key 'first' is no number; number the expressions"),
    "key 01": (renamed("01"), "its key '01' is no number"),
    "an expression": (dog(expressions={"0": "left"}), f"{PLACE}, expression 0: 'left'; give an object with \"exp\""),
    "a list of expressions": (dog(expressions=[1]), f"{PLACE}: expressions = [1]; give"),
    "no frames": (dog(frames=[]), f"{PLACE}: frames = []; give the names of its pictures"),
    "frames 3": (dog(frames=[3]), f"{PLACE}: frames = [3]"),
    "video": (changed(lambda videos: videos.update(dog=[])), f"{PLACE}: []; give an object with frames and"),
    "path": (
        changed(lambda v: v.update({"../x": v.pop("dog")})),
        "video '../x': the name can name no folder; correct it",
    ),
    "no picture": (
        dog(frames=[*FRAMES, "00020"]),
        "video dog: frame 00020 is listed, but not in train/JPEGImages/dog; unpack the pictures again",
    ),
    "twice": (dog(frames=[*FRAMES[:2], *FRAMES[1:]]), "video dog: frame 00005 is listed twice; list it once"),
    "order": (dog(frames=FRAMES[::-1][:2]), "video dog: frame 00010 is listed after 00015; list the frames once"),
    "no pictures": (
        lambda root: shutil.rmtree(root / "train/JPEGImages/dog"),
        "train/JPEGImages/dog: holds no picture; unpack the pictures again, or exclude the video",
    ),
    "two pictures": (lambda root: (root / "train/JPEGImages/dog/00000.png").touch(), "two pictures are named 00000"),
    "no masks": (
        lambda root: shutil.rmtree(root / "train/Annotations/dog"),
        "train/Annotations/dog: holds no mask of a listed frame; unpack the masks again, or exclude the video",
    ),
    "mask jpg": (
        lambda root: (root / "train/Annotations/dog/00000.png").write_bytes(b"\xff\xd8\xff" * 20),
        "dog/00000.png: not a PNG file",
    ),
    "rgb": (
        lambda root: Image.new("RGB", (20, 12)).save(root / "train/Annotations/dog/00000.png"),
        "dog/00000.png: its pixels are RGB; expected an indexed or grey PNG file",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_told_with_its_place_and_what_to_do(youtube: Path, name: str) -> None:
    damage, said = DAMAGES[name]
    damage(youtube)
    found = findings(youtube)
    assert any(said in line for line in found), found
    assert all(line.startswith(str(youtube)) and "\n" not in line for line in found) and len(found) == 1, found


MEVIS_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no lists": (expression(obj_id=3), "video walk, expression 0: obj_id = 3; give a list of numbers"),
    "no annotations": (expression(anno_id=[]), "video walk, expression 0: anno_id = []; give a list of numbers"),
    "word": (expression(anno_id=["a", "b"]), 'expression 0: anno_id = ["a", "b"]'),
    "lengths": (expression(anno_id=[7]), "expression 0: 2 obj_id, but 1 anno_id; give one annotation for each object"),
    "unlisted": (
        changed(lambda videos: videos["walk"].update(frames=FRAMES[:3])),
        "valid_u/JPEGImages/walk holds the picture 00015, which is not listed; list it or remove it",
    ),
    "picture": (
        lambda root: (root / "valid_u/JPEGImages/walk/00000.jpg").write_bytes(b"\xff\xd8"),
        "00000.jpg: a damaged picture",
    ),
}


@pytest.mark.parametrize("name", MEVIS_DAMAGES)
def test_damage_of_mevis_is_told(mevis: Path, name: str) -> None:
    damage, said = MEVIS_DAMAGES[name]
    damage(mevis)
    (line,) = findings(mevis, "test")
    assert said in line


RIGHT = encode_rle(np.zeros((12, 20), np.uint8))
DICTS: dict[str, tuple[object, type[Exception], str]] = {
    "short": (
        {"7": [None], "8": [None] * 4},
        MalformedAnnotations,
        "annotation 7 has 1 frame, but its video has frame 2",
    ),
    "unknown": ({"8": [None] * 4}, MalformedAnnotations, "no annotation 7, which an expression names"),
    "no list": ({"7": {}, "8": []}, MalformedAnnotations, "annotation 7 is {}; expected a list over frames"),
    "garbage": ({"7": [None, "x"], "8": []}, MalformedAnnotations, "annotation 7, frame 2: size = None"),
    "counts": (
        {"7": [None, {"size": [12, 20], "counts": "~~"}], "8": []},
        MalformedAnnotations,
        "annotation 7, frame 2: counts: character 0",
    ),
    "size": (
        {"7": [None, RIGHT | {"size": [20, 12]}], "8": []},
        MaskSizeMismatch,
        "annotation 7, frame 2: a mask of 20 x 12, but the video is 12 x 20",
    ),
    "a list": ([], MalformedAnnotations, r'mask_dict.json: []; expected {"<annotation>"'),
    "NaN": ({"7": float("nan")}, MalformedAnnotations, "NaN; expected a finite number"),
}


@pytest.mark.parametrize("name", DICTS)
def test_damage_of_mask_dict_is_told_when_masks_are_read(mevis: Path, name: str) -> None:
    document, error, said = DICTS[name]
    (video,) = reader.read(mevis, "test", {}, "even:2").videos
    path = Path(video.labelled[0].path)
    write(path, document)
    with pytest.raises(error) as raised:
        reader.read_instances(path, 2, 12, 20, video.unions)
    assert said in str(raised.value) and str(path) in str(raised.value)


def test_whether_an_object_appears_in_any_mask(youtube: Path, mevis: Path) -> None:
    mask = youtube / "train" / "Annotations" / "cat" / "00005.png"
    assert reader.appears(mask, 2, {}) and not reader.appears(mask, 3, {})
    path = mevis / "valid_u" / "mask_dict.json"
    assert reader.appears(path, 2, {2: ("8",)})
    write(path, {"8": [None] * 4})
    assert not reader.appears(path, 2, {2: ("8",)})


DAVIS_DAMAGES: dict[str, tuple[bytes, str]] = {
    "latin-1": (b'bear 1 "a"\ncar-turn 1 "caf\xe9"', "Davis17_annot1.txt, line 2: byte 0xe9 is no UTF-8"),
    "object": (b'bear one "a"', 'line 1: \'bear one "a"\'; expected: video object "expression"'),
    "object 0": (b'bear 0 "a"', "line 1: 'bear 0"),
    "no expression": (b"bear 1", "line 1: 'bear 1'"),
    "empty": (b'bear 1 ""', "line 1: the expression '' has no word; write one, or remove the line"),
    "video": (b'baer 1 "a"', "line 1: video 'baer' is in no list of ImageSets/2017; correct the name"),
    "twice": (b'bear 1 "a"\n\nbear 1 "b"', "line 3: object 1 of bear is on line 1, too; remove one"),
}


@pytest.mark.parametrize("name", DAVIS_DAMAGES)
def test_damage_of_the_text_files_is_told(davis: Path, name: str) -> None:
    content, said = DAVIS_DAMAGES[name]
    text(davis, "annot1").write_bytes(content)
    (line,) = findings(davis)
    assert said in line and "davis_text_annotations/Davis17_annot1.txt" in line


def test_splits_without_masks_are_refused(youtube: Path, mevis: Path) -> None:
    valid = {"dog": {"frames": FRAMES, "expressions": {"0": {"exp": "a dog"}}}}
    write(youtube_file(youtube, "valid"), {"videos": valid})
    with pytest.raises(NoMasks, match="no expression has obj_id, so that this split has no masks to train or score on"):
        reader.read(youtube, "test", {}, "even")
    shutil.rmtree(mevis / "valid_u")
    with pytest.raises(NoMasks, match="no expression has anno_id"):
        reader.read(mevis, "test", {}, "even")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON"),
        (b'{"videos": {"caf\xe9": {}}}', "no UTF-8 at byte"),
        (b'{"videos": []}', "no videos; expected"),
        (b"[]", "no videos; expected"),
        (b'{"videos": {"a": {}, "a": {}}}', "the key 'a' is there twice"),
    ],
)
def test_files_that_are_no_expressions_are_refused(youtube: Path, content: bytes, said: str) -> None:
    youtube_file(youtube).write_bytes(content)
    with pytest.raises(MalformedAnnotations, match=r"meta_expressions\.json") as raised:
        reader.read(youtube, "train", {}, "even")
    assert said in str(raised.value)


@pytest.mark.parametrize("missing", ["JPEGImages", "Annotations", "mask_dict.json"])
def test_missing_folders_are_named(youtube: Path, mevis: Path, missing: str) -> None:
    root, split, folder = (mevis, "test", "valid_u") if "." in missing else (youtube, "train", "train")
    path = root / folder / missing
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(MissingFile, match=rf"no {path}, which .*meta_expressions.json needs"):
        reader.read(root, split, {}, "even")


@pytest.mark.parametrize(
    "missing", ["DAVIS/JPEGImages", "DAVIS/ImageSets", "davis_text_annotations/Davis17_annot2.txt"]
)
def test_missing_files_of_davis_are_named(davis: Path, missing: str) -> None:
    path = davis / missing
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(MissingFile, match=str(path)):
        reader.read(davis, "train", {}, "even")


def test_other_folders_and_splits_are_refused(youtube: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownSplit, match="valid"):
        reader.read(youtube, "valid", {}, "even")
    (tmp_path / "empty").mkdir()
    for split in ("train", "all"):
        with pytest.raises(MissingFile, match=r"Expected meta_expressions/<folder>/meta_expressions.json"):
            reader.read(tmp_path / "empty", split, {}, "even")


def test_all_problems_come_at_once_up_to_fifty(youtube: Path) -> None:
    dog(expressions={str(number): {"exp": "x", "obj_id": "0"} for number in range(SHOWN + 7)})(youtube)
    changed(lambda videos: videos["cat"]["expressions"]["1"].update(exp=""))(youtube)
    found = findings(youtube)
    assert len(found) == SHOWN + 1 and found[-1] == f"{youtube}: and 8 problems more"
