"""Conversion of a data set in A2D's layout to a folder of one's own (docs/own_data.md)."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from data.masks import encode_rle
from data.readers import a2d

PALETTE = [0, 0, 0, 209, 73, 91, 46, 134, 171, 58, 124, 67, 240, 180, 40] + [128, 128, 128] * 251


def converted(root: Path, to: Path, *, pictures: bool = True) -> dict[str, str]:
    """Write the folder `to`; return the split of each video.

    An instance becomes its number + 1, since 0 is the background. Masks become PNG files, or JSON if not `pictures` or
    where they overlap.
    """
    listing = a2d.read(root, "all", {})
    groups = grouped(root)
    (to / "videos").mkdir(parents=True)
    for video in listing.videos:
        shutil.copyfile(video.path, to / "videos" / Path(video.path).name)
        frames = {
            frame.number: a2d.read_instances(Path(frame.path), video.height, video.width) for frame in video.labelled
        }
        if pictures and all(found.masks.sum(0).max(initial=0) <= 1 for found in frames.values()):
            (to / "masks" / video.id).mkdir(parents=True)
            for number, found in frames.items():
                numbers = np.zeros((video.height, video.width), np.uint8)
                for instance, mask in zip(found.ids, found.masks, strict=True):
                    numbers[mask == 1] = instance + 1
                save(numbers, to / "masks" / video.id / f"{number:05d}.png")
        else:
            (to / "masks").mkdir(exist_ok=True)
            document = {
                str(number): {str(i + 1): encode_rle(mask) for i, mask in zip(found.ids, found.masks, strict=True)}
                for number, found in frames.items()
            }
            (to / "masks" / f"{video.id}.json").write_text(json.dumps(document))
    splits = {video.id: video.split for video in listing.videos}
    labels = _labels(listing)
    with (to / "sentences.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("video", "instance", "sentence", "split", "actor", "action", "group"))
        for query in listing.queries:
            actor, action = labels.get((query.video, query.instance), ("", ""))
            group = groups.get((query.video, str(query.instance)), "")
            table.writerow((query.video, query.instance + 1, query.text, splits[query.video], actor, action, group))
    return splits


def save(numbers: np.ndarray, path: Path) -> None:
    """Write an indexed PNG file."""
    picture = Image.fromarray(numbers, mode="P")
    picture.putpalette(PALETTE)
    picture.save(path)


def _labels(listing) -> dict[tuple[str, int], tuple[str, str]]:
    from data.records import ACTIONS, ACTORS, split_label

    found = {}
    for video in listing.videos:
        for frame in video.labelled:
            instances = a2d.read_instances(Path(frame.path), video.height, video.width)
            for instance, label in zip(instances.ids, instances.labels, strict=True):
                if label:
                    actor, action = split_label(label)
                    found[video.id, instance] = (ACTORS[actor - 1], ACTIONS[action - 1])
    return found


def grouped(root: Path) -> dict[tuple[str, str], str]:
    path = root / "text_annotations" / "groups.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]] if path.exists() else []
    return {(video, instance): group for video, instance, group in rows}
