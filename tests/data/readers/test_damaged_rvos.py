"""What the reader of the layouts of Ref-YouTube-VOS, MeViS and Ref-DAVIS17 says of damaged ones."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rvos_roots import FRAMES, changed, davis_root, dog, expression, mevis_root, text, write, youtube_file, youtube_root

from data.masks import encode_rle
from data.readers.annotations import (
    MalformedAnnotations,
    MaskSizeMismatch,
    MissingFile,
    UnknownSplit,
)
from data.readers.rvos import reader
from data.readers.rvos.expressions import NoMasks
from data.readers.sentence_table import SHOWN, BadFolder


@pytest.fixture
def youtube(tmp_path: Path) -> Path:
    return youtube_root(tmp_path)


@pytest.fixture
def mevis(tmp_path: Path) -> Path:
    return mevis_root(tmp_path)


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    return davis_root(tmp_path)


def findings(root: Path, split: str = "train") -> tuple[str, ...]:
    with pytest.raises(BadFolder) as bad:
        reader.read(root, split, {}, "every:1")
    return bad.value.findings


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
