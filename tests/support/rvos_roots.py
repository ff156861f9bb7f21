"""Small data sets in the layouts of Ref-YouTube-VOS, MeViS and Ref-DAVIS17, and changes of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from own_folder import save
from PIL import Image

from data.masks import encode_rle

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


def youtube_root(folder: Path) -> Path:
    """Two videos with masks of all frames, and of two."""
    root = folder / "youtube"
    for video, masked in {"dog": FRAMES, "cat": FRAMES[1:3]}.items():
        draw(root / "train" / "JPEGImages" / video, FRAMES, ".jpg")
        draw(root / "train" / "Annotations" / video, masked, ".png")
    dog = {"0": {"exp": "The left  one", "obj_id": "1"}, "2": {"exp": "on the right", "obj_id": 2}}
    cat = {"1": {"exp": "a cat", "obj_id": "1"}}
    videos = {name: {"frames": FRAMES, "expressions": each} for name, each in {"dog": dog, "cat": cat}.items()}
    write(youtube_file(root), {"videos": videos})
    return root


def mevis_root(folder: Path) -> Path:
    """A video of two objects, the second of which is in its first two frames."""
    root = folder / "mevis"
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


def davis_root(folder: Path) -> Path:
    """A video in each split, with the sentences of two annotators in four files."""
    root = folder / "davis"
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
