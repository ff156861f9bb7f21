"""Conversion of A2D's layout to those of Ref-YouTube-VOS and MeViS, and to a folder over the same pictures."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from own_folder import grouped, save
from PIL import Image

from data.masks import encode_rle
from data.readers import a2d
from data.records import Instances, Query, Video

FOLDERS = {"train": "train", "test": "valid"}
STEP = 5  # between the names of two frames, as in Ref-YouTube-VOS


@dataclass(frozen=True)
class Clip:
    """A part of a video of A2D: its pictures, and the masks of each labelled one by its place, from 1."""

    video: Video
    pictures: tuple[np.ndarray, ...]
    truth: Mapping[int, Instances]
    queries: tuple[Query, ...]
    groups: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return [f"{STEP * place:05d}" for place in range(len(self.pictures))]


def clips(root: Path) -> list[Clip]:
    """The videos of A2D's layout, cut so that their two labelled frames are the middles of two halves (even:2)."""
    listing, groups = a2d.read(root, "all", {}), grouped(root)
    found = []
    for video in listing.videos:
        first, second = (frame.number for frame in video.labelled)
        length, start = 2 * (second - first), first - 1 - (second - first) // 2
        with av.open(video.path) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert start >= 0 and start + length <= len(frames)
        truth = {
            frame.number - start: a2d.read_instances(Path(frame.path), video.height, video.width)
            for frame in video.labelled
        }
        of_video = [query for query in listing.queries if query.video == video.id]
        queries = tuple(sorted(of_video, key=lambda query: query.instance))
        of_queries = tuple(groups.get((query.video, str(query.instance)), "") for query in queries)
        found.append(Clip(video, tuple(frames[start : start + length]), truth, queries, of_queries))
    return found


def youtube(found: list[Clip], to: Path) -> None:
    """Ref-YouTube-VOS: an instance is its number + 1."""

    def expression(clip: Clip, query: Query) -> dict[str, object]:
        return {"exp": query.text, "obj_id": str(query.instance + 1)}

    for split, documents in _documents(found, expression).items():
        folder = to / "meta_expressions" / FOLDERS[split]
        folder.mkdir(parents=True)
        (folder / "meta_expressions.json").write_text(json.dumps(documents))
    for clip in found:
        folder = to / FOLDERS[clip.video.split]
        _write_pictures(clip, folder / "JPEGImages" / clip.video.id)
        _write_masks(clip, folder / "Annotations" / clip.video.id, clip.names)
    _write_groups(to, [(clip, query.instance + 1, group) for clip, query, group in _spoken(found)])


def mevis(found: list[Clip], to: Path) -> None:
    """MeViS: an instance is cut into an upper and a lower object, whose union a sentence means."""
    numbers: dict[tuple[str, int], int] = {}

    def expression(clip: Clip, query: Query) -> dict[str, object]:
        number = numbers.setdefault((clip.video.id, query.instance), len(numbers))
        return {"exp": query.text, "obj_id": [2 * query.instance, 2 * query.instance + 1], "anno_id": _parts(number)}

    for split, document in _documents(found, expression).items():
        (to / FOLDERS[split]).mkdir(parents=True)
        (to / FOLDERS[split] / "meta_expressions.json").write_text(json.dumps(document))
        of_split = [clip for clip in found if clip.video.split == split]
        masks: dict[str, list[object]] = {}
        for clip in of_split:
            _write_pictures(clip, to / FOLDERS[split] / "JPEGImages" / clip.video.id)
            for instance in {query.instance for query in clip.queries}:
                parts = _parts(numbers[clip.video.id, instance])
                masks |= {str(part): [None] * len(clip.pictures) for part in parts}
                for place, truth in clip.truth.items():
                    mask = (_numbers(clip, truth) == instance + 1).astype(np.uint8)
                    if mask.any():
                        upper, lower = _halves(mask)
                        masks[str(parts[0])][place - 1] = encode_rle(upper)
                        masks[str(parts[1])][place - 1] = encode_rle(lower) if lower.any() else None
        (to / FOLDERS[split] / "mask_dict.json").write_text(json.dumps(masks))
    _write_groups(to, [(clip, first_expression(clip, query) + 1, group) for clip, query, group in _spoken(found)])


def folder(found: list[Clip], to: Path) -> None:
    """A data set of kind "folder" over the same pictures and masks."""
    for clip in found:
        _write_pictures(clip, to / "videos" / clip.video.id)
        _write_masks(clip, to / "masks" / clip.video.id, [str(place + 1) for place in range(len(clip.pictures))])
    with (to / "sentences.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("video", "instance", "sentence", "split", "group"))
        for clip, query, group in _spoken(found):
            table.writerow((clip.video.id, query.instance + 1, query.text, clip.video.split, group))


def first_expression(clip: Clip, query: Query) -> int:
    """The number of the first expression about the same instance."""
    return [each.instance for each in clip.queries].index(query.instance)


def _spoken(found: list[Clip]) -> list[tuple[Clip, Query, str]]:
    return [(clip, *pair) for clip in found for pair in zip(clip.queries, clip.groups, strict=True)]


def _documents(found: list[Clip], expression: Callable[[Clip, Query], object]) -> dict[str, object]:
    return {
        split: {
            "videos": {
                clip.video.id: {
                    "frames": clip.names,
                    "expressions": {str(n): expression(clip, query) for n, query in enumerate(clip.queries)},
                }
                for clip in found
                if clip.video.split == split
            }
        }
        for split in FOLDERS
    }


def _write_pictures(clip: Clip, to: Path) -> None:
    to.mkdir(parents=True)
    for name, picture in zip(clip.names, clip.pictures, strict=True):
        Image.fromarray(picture).save(to / f"{name}.jpg", quality=95)


def _write_masks(clip: Clip, to: Path, names: list[str]) -> None:
    to.mkdir(parents=True)
    for place, truth in clip.truth.items():
        save(_numbers(clip, truth), to / f"{names[place - 1]}.png")


def _numbers(clip: Clip, truth: Instances) -> np.ndarray:
    numbers = np.zeros((clip.video.height, clip.video.width), np.uint8)
    for instance, mask in zip(truth.ids, truth.masks, strict=True):
        numbers[mask == 1] = instance + 1
    return numbers


def _write_groups(to: Path, rows: list[tuple[Clip, int, str]]) -> None:
    lines = [f"{clip.video.id},{instance},{group}" for clip, instance, group in rows]
    (to / "groups.csv").write_text("\n".join(["video_id,instance_id,group", *lines]) + "\n")


def _parts(number: int) -> list[int]:
    return [2 * number, 2 * number + 1]


def _halves(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.flatnonzero(mask.any(1))
    upper, lower = mask.copy(), mask.copy()
    middle = rows[len(rows) // 2]
    upper[middle + 1 :], lower[: middle + 1] = 0, 0
    return upper, lower
