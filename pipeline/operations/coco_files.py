"""Reading of true and predicted masks from files in COCO's formats, where nothing is believed before it is checked.

Every error is one line that names the file, the entry (its index in its list, from 0) and the field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pycocotools import mask as coco

from data import strict_json
from data.masks import RunLengths, encode_rle
from data.run_lengths import WrongRuns, checked_runs, mask_of_runs, needs_new_form
from data.wording import counted, shown

LONGEST_SIDE = 16384  # pixels
MOST_PIXELS = 2**26  # of an image; one of 8K has half as many
MOST_TIMES = 1000  # a letterbox leaves nothing of an image that is still longer

ImageId = int | str
Prediction = tuple[RunLengths, float]
"""A mask and its confidence."""


class BadMasks(ValueError):
    """Error of a file of masks that is not in COCO's format or does not match the other file."""


@dataclass(frozen=True)
class Entry:
    """One entry of a list in a file: its fields, and its name for messages, such as "annotation 3"."""

    path: Path
    name: str
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path, name: str, value: Any, needed: tuple[str, ...]) -> Entry:
        """Return a value as an entry. Raises `BadMasks` unless it is an object that has the needed fields."""
        if not isinstance(value, dict):
            raise BadMasks(f"{path}: {name} is {shown(value)}; expected an object with {_listed(needed)}.")
        if missing := [field for field in needed if field not in value]:
            raise BadMasks(f"{path}: {name} lacks {_listed(missing)}; expected {_listed(needed)}.")
        return cls(path, name, value)

    def refuse(self, field: str, found: str, expected: str) -> NoReturn:
        """Raise `BadMasks` for a field."""
        raise BadMasks(f"{self.path}: {self.name}, {field}: {found}; expected {expected}.")

    def image_id(self, field: str) -> ImageId:
        """Return the id of an image. Raises `BadMasks`."""
        value = self.fields[field]
        if type(value) is not int and type(value) is not str:
            self.refuse(field, shown(value), "an integer or a text")
        return value

    def side(self, field: str) -> int:
        """Return a height or a width. Raises `BadMasks`."""
        value = self.fields[field]
        if type(value) is not int or not 1 <= value <= LONGEST_SIDE:
            self.refuse(field, shown(value), f"an integer from 1 to {LONGEST_SIDE}")
        return value

    def size(self) -> tuple[int, int]:
        """Return the height and the width of an image. Raises `BadMasks`."""
        height, width = self.side("height"), self.side("width")
        if height * width > MOST_PIXELS:
            self.refuse("height and width", f"{height} x {width} pixels", f"{MOST_PIXELS} pixels or fewer")
        if max(height, width) > MOST_TIMES * min(height, width):
            found = f"{height} x {width} pixels"
            self.refuse("height and width", found, f"a side of {MOST_TIMES} times the other or less")
        return height, width

    def score(self) -> float:
        """Return the score of a result. Raises `BadMasks`."""
        value = self.fields["score"]
        if type(value) not in (int, float):
            self.refuse("score", shown(value), "a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.refuse("score", shown(value), "a finite number")
        return number

    def mask(self, image: ImageId, size: tuple[int, int]) -> RunLengths:
        """Return the mask of an image from its compressed or plain run lengths. Raises `BadMasks`."""
        value = self.fields["segmentation"]
        if not isinstance(value, dict) or not {"size", "counts"} <= value.keys():
            self.refuse("segmentation", f"{shown(value)} is no run-length encoding", "an object with size and counts")
        given = value["size"]
        if not isinstance(given, list) or len(given) != 2 or any(type(side) is not int for side in given):
            self.refuse("segmentation.size", shown(given), f"[{size[0]}, {size[1]}]")
        if tuple(given) != size:
            found = f"({shown(given[0])}, {shown(given[1])})"
            raise BadMasks(
                f"{self.path}: {self.name}, segmentation.size: the mask of image {shown(image)} has"
                f" {found} pixels, expected {size}."
            )
        try:
            runs = checked_runs(value["counts"], *size)
        except WrongRuns as error:
            raise BadMasks(f"{self.path}: {self.name}, segmentation.counts: {error}.") from None
        if needs_new_form(runs):
            return encode_rle(mask_of_runs(runs, *size))
        if isinstance(value["counts"], str):
            return {"size": list(size), "counts": value["counts"]}
        encoded = coco.frPyObjects({"size": list(size), "counts": runs.tolist()}, *size)
        return {"size": list(size), "counts": encoded["counts"].decode("ascii")}


def truths_in(path: Path) -> dict[ImageId, RunLengths]:
    """Read the true mask of each image, in the order of the images' ids (numbers before texts), which is COCO's.

    Raises `BadMasks` unless there is exactly one annotation per image.
    """
    document = _read(path)
    if not isinstance(document, dict) or not {"images", "annotations"} <= document.keys():
        raise BadMasks(f"{path}: {shown(document)}; expected COCO's form, an object with images and annotations.")
    sizes: dict[ImageId, tuple[int, int]] = {}
    for number, value in enumerate(_list(path, "images", document["images"])):
        entry = Entry.of(path, f"image {number}", value, ("id", "height", "width"))
        image = entry.image_id("id")
        if image in sizes:
            entry.refuse("id", f"{shown(image)} is the id of an image before it", "an id of its own")
        sizes[image] = entry.size()
    found: dict[ImageId, RunLengths] = {}
    for number, value in enumerate(_list(path, "annotations", document["annotations"])):
        entry = Entry.of(path, f"annotation {number}", value, ("image_id", "segmentation"))
        image = entry.image_id("image_id")
        if image not in sizes:
            entry.refuse("image_id", f"{shown(image)} is not among the images", "the id of one of them")
        if image in found:
            two = f"image {shown(image)} has two annotations"
            entry.refuse("image_id", two, "one, that of its sentence's actor")
        found[image] = entry.mask(image, sizes[image])
    if len(found) != len(sizes) or not found:
        images, annotations = counted(len(sizes), "image"), counted(len(found), "annotation")
        first = next((f", none of image {shown(image)}" for image in sizes if image not in found), "")
        raise BadMasks(f"{path}: {annotations} of {images}{first}; expected one of each.")
    return {image: found[image] for image in sorted(found, key=lambda one: (isinstance(one, str), one))}


def predictions_in(path: Path, truths: Mapping[ImageId, RunLengths]) -> dict[ImageId, list[Prediction]]:
    """Read the predictions of each image that has any, in the order of the file. Raises `BadMasks`."""
    document = _read(path)
    if not isinstance(document, list):
        raise BadMasks(
            f"{path}: {shown(document)}; expected COCO's form of results, a list of image_id, segmentation and score."
        )
    found: dict[ImageId, list[Prediction]] = {}
    for number, value in enumerate(document):
        entry = Entry.of(path, f"result {number}", value, ("image_id", "segmentation", "score"))
        image = entry.image_id("image_id")
        if image not in truths:
            entry.refuse("image_id", f"{shown(image)} is no image of the truth", "the id of one of them")
        height, width = truths[image]["size"]
        found.setdefault(image, []).append((entry.mask(image, (height, width)), entry.score()))
    return found


def _listed(fields: tuple[str, ...] | list[str]) -> str:
    return fields[0] if len(fields) == 1 else f"{', '.join(fields[:-1])} and {fields[-1]}"


def _list(path: Path, field: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadMasks(f"{path}: {field}: {shown(value)}; expected a list.")
    return value


def _read(path: Path) -> Any:
    try:
        return strict_json.read(path)
    except OSError as error:
        raise BadMasks(f"{path}: cannot be read ({error.strerror}); give the path of a JSON file.") from None
    except strict_json.NotJSON as error:
        raise BadMasks(f"{path}: {error}.") from None
