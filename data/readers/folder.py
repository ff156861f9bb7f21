"""Reader of a data set of one's own, in one simple layout (docs/own_data.md).

root/sentences.csv                 a header with video, instance, sentence and, if wanted, split, frames, actor, action
root/videos/<video>.<ext>          any video file, or a folder root/videos/<video>/ of pictures
root/masks/<video>/<frame>.png     indexed or grey; a pixel is the number of its instance, 0 the background; or
root/masks/<video>.json            {"<frame>": {"<instance>": COCO's run lengths}}

Frames count from 1, as the decoder counts them. What is wrong with the files is collected, so that one reading tells it
all.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data import strict_json
from data.defects import Hits
from data.readers import instance_masks
from data.readers.annotations import (
    MalformedAnnotations,
    MissingFile,
    UnknownExclusion,
    UnknownSplit,
    mask_hits,
    names,
    numbered,
)
from data.readers.picture_folder import pictures
from data.readers.sentence_table import Problems, Spoken, read_table
from data.records import Instances, LabelledFrame, Listing, Query, Video

SPLITS = ("train", "test")
_NUMBER = re.compile(r"0*([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Share:
    """The share of the videos that become the test split where the table has no column `split`, drawn by a seed."""

    test: float
    seed: int

    def split_of(self, video: str) -> str:
        """Return the split of a video, which depends on no other video."""
        digest = hashlib.sha256(f"{self.seed}/{video}".encode()).digest()
        return "test" if int.from_bytes(digest[:8], "big") < self.test * 2**64 else "train"


def read(root: Path, split: str, exclude: Mapping[str, str], share: Share) -> Listing:
    """Return the videos and sentences of `split` ("train", "test" or "all"), in the order of the table.

    No video is opened; of the masks, names are listed and the size of each video's first one is read. Raises
    MissingFile, MalformedAnnotations, UnknownSplit, UnknownExclusion; BadFolder with all that is wrong."""
    if split not in (*SPLITS, "all"):
        raise UnknownSplit(f"a folder has no split {split!r}; expected train, test or all.")
    problems = Problems(root)
    table = read_table(root / "sentences.csv", problems)
    files = _videos(root / "videos", problems)
    if unknown := sorted(set(exclude) - set(files)):
        raise UnknownExclusion(f"[dataset].exclude names {', '.join(unknown)}: not in {root / 'videos'}. Correct it.")
    hits, spoken = Hits(), dict[str, list[Spoken]]()
    for row in table:
        if row.video not in files:
            problems.add(f"sentences.csv, line {row.line}", f"video {row.video!r} is not in videos/", _near(row, files))
        elif row.video not in exclude:
            spoken.setdefault(row.video, []).append(row)
    for video in files:
        if video in exclude:
            hits.add("excluded", f"{video}: {exclude[video]}")
        elif video not in spoken:
            hits.add("no_sentence", video)
    splits = {video: rows[0].split or share.split_of(video) for video, rows in spoken.items()}
    videos = [
        found
        for video, rows in spoken.items()
        if split in (splits[video], "all")
        and (found := _video(root, files[video], rows, splits[video], problems)) is not None
    ]
    problems.raise_if_any()
    if not videos:
        raise MalformedAnnotations(
            f"{root}: no video of the split {split} has a sentence (of {len(files)} videos and {len(table)} sentences)."
            " Name the split in a column of sentences.csv, or change dataset.test_share."
        )
    kept = {video.id for video in videos}
    queries = [
        Query(row.video, row.instance, row.text, row.line, None, row.frames, row.group)
        for row in table
        if row.video in kept
    ]
    return Listing(tuple(videos), numbered(queries), hits.collected())


def read_instances(path: Path, number: int, height: int, width: int) -> Instances:
    """Read the instances of frame `number`, counted from 1, whose labels are 0: the table knows them.

    Raises MissingFile, MalformedAnnotations, MaskSizeMismatch."""
    if path.suffix == ".png":
        masks, ids = instance_masks.split(instance_masks.read_png(path, height, width))
    else:
        encoded = _frames(path)[number]
        ids = tuple(sorted(encoded))
        masks = instance_masks.stacked(
            (
                instance_masks.decoded(f"{path}: frame {number}, instance {each}", encoded[each], height, width)
                for each in ids
            ),
            height,
            width,
        )
    return Instances(masks, ids, (0,) * len(ids), mask_hits(masks))


# ---- videos and their labelled frames


def _videos(folder: Path, problems: Problems) -> dict[str, Path]:
    """Return the file or folder of each video by its name."""
    if not folder.is_dir():
        raise MissingFile(f"no folder {folder}. Put the videos there, or correct [dataset].root.")
    found: dict[str, Path] = {}
    for name in names(folder):
        path = folder / name
        if name.startswith("."):
            continue
        video = name if path.is_dir() else path.stem
        if video in found:
            problems.add(f"videos/{name}", f"{found[video].name} is the video {video}, too", "rename or remove one")
        found.setdefault(video, path)
    return found


def _video(root: Path, path: Path, rows: Sequence[Spoken], split: str, problems: Problems) -> Video | None:
    """Return a video with its labelled frames, or None if something is wrong with it."""
    video, count = rows[0].video, 0
    if path.is_dir():
        try:
            count = len(pictures(path))
        except MalformedAnnotations as error:
            problems.add(f"videos/{video}", str(error), "")
            return None
        if not count:
            problems.add(f"videos/{video}", "holds no picture", "put PNG or JPEG files there")
            return None
    places = _labelled(root / "masks", video, problems)
    if not places:
        return None
    for number in places:
        if count and number > count:
            problems.add(f"masks/{video}", f"frame {number}, but the video has {count}", "count frames from 1")
    wanted = [row.frames for row in rows]
    for row in rows:
        if lost := sorted(set(row.frames or ()) - set(places)):
            where = f"sentences.csv, line {row.line}"
            problems.add(where, f"frame {lost[0]} of {video} has no mask", f"add masks/{video}/{lost[0]}.png")
    kept = [number for number in places if any(frames is None or number in frames for frames in wanted)]
    size = _size(video, places[kept[0]], kept[0], problems) if kept else None
    if size is None:
        return None
    labels = {row.instance: row.label for row in rows if row.label}
    labelled = tuple(LabelledFrame(number, str(places[number])) for number in kept)
    return Video(video, str(path), split, *size, count, labelled, labels)


def _labelled(folder: Path, video: str, problems: Problems) -> dict[int, Path]:
    """Return the file of the masks of each labelled frame of a video, by its number in ascending order."""
    single = folder / f"{video}.json"
    found = [name for name in names(folder / video) if not name.startswith(".")]
    if single.exists():
        if found:
            problems.add(f"masks/{video}", f"both a folder and {single.name}", "remove one of them")
            return {}
        try:
            return dict.fromkeys(sorted(_frames(single)), single)
        except MalformedAnnotations as error:
            problems.add("masks", str(error), "")
            return {}
    places: dict[int, Path] = {}
    for name in found:
        path = folder / video / name
        match = _NUMBER.fullmatch(path.stem)
        if path.suffix != ".png" or match is None:
            problems.add(f"masks/{video}/{name}", "the name is no frame number with .png", "rename or remove it")
        elif int(match[1]) in places:
            problems.add(f"masks/{video}/{name}", f"frame {int(match[1])} is there twice", "remove one of the files")
        else:
            places[int(match[1])] = path
    if not found:
        problems.add(f"masks/{video}", "no mask", f"add masks/{video}/<frame>.png or {single.name}")
    return dict(sorted(places.items()))


def _size(video: str, path: Path, number: int, problems: Problems) -> tuple[int, int] | None:
    """Return the height and width of the masks in a file."""
    try:
        if path.suffix == ".png":
            return instance_masks.png_size(path)
        encoded = _frames(path)[number]
        if not encoded:
            raise MalformedAnnotations(f"{path}: frame {number} has no instance. Remove the frame.")
        return instance_masks.rle_size(f"{path}: frame {number}", next(iter(encoded.values())))
    except (MissingFile, MalformedAnnotations) as error:
        problems.add(f"masks/{video}", str(error), "")
        return None


# ---- masks in COCO's run lengths


@cache
def _frames(path: Path) -> dict[int, dict[int, Any]]:
    """Return the run lengths by frame and instance. Raises MalformedAnnotations."""
    try:
        document = strict_json.read(path)
    except OSError as error:
        raise MissingFile(f"{path} cannot be read ({error.strerror}). Put it there again.") from None
    except strict_json.NotJSON as error:
        raise MalformedAnnotations(f"{path}: {error}. Write it again.") from None
    expected = 'expected {"<frame>": {"<instance>": run lengths}}, both counted from 1'
    if not isinstance(document, dict) or not document:
        raise MalformedAnnotations(f"{path}: no frames; {expected}. Write it again.")
    frames: dict[int, dict[int, Any]] = {}
    for frame, instances in document.items():
        keys = [frame, *instances] if isinstance(instances, dict) else []
        if not keys or not all(_NUMBER.fullmatch(key) for key in keys):
            raise MalformedAnnotations(f"{path}: frame {frame!r} with {str(instances)[:60]}; {expected}. Correct it.")
        frames[int(frame)] = {int(instance): encoded for instance, encoded in instances.items()}
    return frames


def _near(row: Spoken, files: Mapping[str, Path]) -> str:
    near = difflib.get_close_matches(row.video, files, n=1)
    return f"did you mean {near[0]}?" if near else "add the video, or remove the line"
