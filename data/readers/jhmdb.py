"""Reader of J-HMDB (Jhuang et al., ICCV 2013) with JHMDB-Sentences (Gavrilyuk et al., CVPR 2018), used as a test set.

root/jhmdb_annotation.txt                                     or root/text_annotations/jhmdb_annotation.txt
root/puppet_mask/<action>/<video>/puppet_mask.mat             MATLAB v5, part_mask (height, width, T)
root/Rename_Images/<action>/<video>/<%05d>.png                or
root/ReCompress_Videos/<action>/<video>.avi
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.defects import Hits
from data.readers import labelled_list, mat_masks
from data.readers.annotations import (
    EmptyAnnotations,
    MalformedAnnotations,
    MaskSizeMismatch,
    MissingFile,
    UnknownExclusion,
    UnknownSplit,
    binary_masks,
    find,
    mask_hits,
    names,
    read_sentences,
)
from data.records import Instances, LabelledFrame, Listing, Query, Video
from data.wording import counted

SENTENCE_COLUMNS = ("video_id", "query")
LABELLED_FRAMES = labelled_list.FRAMES_A_VIDEO
_PICTURE = re.compile(r"([0-9]{5})\.png")


def read(root: Path, split: str, exclude: Mapping[str, str], labelled: str | Path = "even") -> Listing:
    """Return the videos and sentences of `split` in the order of the sentences; "test" and "all" are the same.

    Each video has three labelled frames: evenly spaced ones, or those of the list at the path `labelled` (see
    `data.readers.labelled_list`). `exclude` maps the ids of videos to leave out to the reasons. No video is opened;
    only the shape is read from a mask file. Raises MissingFile, EmptyAnnotations, MalformedAnnotations,
    MalformedLabelledList, UnknownSplit, UnknownExclusion."""
    if split not in ("test", "all"):
        raise UnknownSplit(f"J-HMDB has no split {split!r}; expected test or all: JHMDB-Sentences is for testing only.")
    hits = Hits()
    folders, queries = read_text(root, hits)
    kept = _kept(queries, folders, exclude, hits)
    if not kept:
        raise EmptyAnnotations(
            f"J-HMDB at {root}: no video has a sentence ({counted(len(folders), 'video')},"
            f" {counted(len(queries), 'sentence')}). "
            "Check that puppet_mask and jhmdb_annotation.txt belong together."
        )
    shapes = {name: mat_masks.read_shape(folders[name] / "puppet_mask.mat") for name in kept}
    numbers = _numbers(labelled, folders, {name: shape[2] for name, shape in shapes.items()})
    videos = tuple(_video(root, folders[name], shapes[name], numbers[name], hits) for name in kept)
    return Listing(videos, tuple(query for query in queries if query.video in kept), hits.collected())


def read_text(root: Path, hits: Hits) -> tuple[dict[str, Path], tuple[Query, ...]]:
    """Return the mask folder of each video and all sentences; no video is left out yet.

    Raises MissingFile, EmptyAnnotations, MalformedAnnotations."""
    queries = read_queries(find((root, root / "text_annotations"), "jhmdb_annotation.txt", "JHMDB-Sentences"), hits)
    return _mask_folders(find([root], "puppet_mask", "J-HMDB")), queries


def read_queries(path: Path, hits: Hits) -> tuple[Query, ...]:
    """Return the cleaned sentences of jhmdb_annotation.txt.

    Raises MissingFile, EmptyAnnotations, MalformedAnnotations."""
    return read_sentences(path, SENTENCE_COLUMNS, hits)


def labelled_numbers(frames: int) -> tuple[int, ...]:
    """Return the middle frames of the three thirds of a video: floor((2k + 1) frames / 6) + 1 for k = 0, 1, 2.

    The numbers count from 1. The paper says only "uniformly sampled"; the frames that it used are unknown."""
    return tuple((2 * k + 1) * frames // (2 * LABELLED_FRAMES) + 1 for k in range(LABELLED_FRAMES))


def read_instances(path: Path, number: int, height: int, width: int) -> Instances:
    """Read the only instance, 0, of frame `number` (counted from 1) of a puppet mask file; its label is 0 (unknown).

    Raises MissingFile, MalformedAnnotations, MaskSizeMismatch."""
    name = f"J-HMDB video {path.parent.name}, labelled frame {number} ({path})"
    stored = mat_masks.read_masks(path)
    if stored.shape[:2] != (height, width):
        raise MaskSizeMismatch(
            f"{name}: masks of {stored.shape[0]} x {stored.shape[1]}, but the video is {height} x {width} (height x "
            "width). Fetch the masks again, or list the video in [dataset].exclude with a reason."
        )
    if not 1 <= number <= stored.shape[2]:
        raise MalformedAnnotations(f"{name}: the file has masks of frames 1 to {stored.shape[2]}. Fetch it again.")
    masks = binary_masks(name, stored[None, :, :, number - 1])
    return Instances(masks, (0,), (0,), mask_hits(masks))


def _mask_folders(root: Path) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for action in _subfolders(root):
        for video in _subfolders(action):
            if video.name in folders:
                raise MalformedAnnotations(
                    f"J-HMDB video {video.name}: both {folders[video.name]} and {video}. Remove one."
                )
            folders[video.name] = video
    return folders


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise MissingFile(f"J-HMDB: {folder} is no folder. Unpack puppet_mask.zip again.")
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())


def _kept(
    queries: Sequence[Query], masks: Mapping[str, Path], exclude: Mapping[str, str], hits: Hits
) -> dict[str, None]:
    unknown = sorted(set(exclude) - set(masks))
    if unknown:
        raise UnknownExclusion(f"[dataset].exclude names {', '.join(unknown)}: not in puppet_mask. Correct the id.")
    kept: dict[str, None] = {}
    for query in queries:
        if query.video not in masks:
            hits.add("sentence_without_video", f"line {query.row}: {query.id}")
        elif query.video not in exclude:
            kept[query.video] = None
    for video in masks:
        if video in exclude:
            hits.add("excluded", f"{video}: {exclude[video]}")
        elif video not in kept:
            hits.add("no_sentence", video)
    return kept


def _numbers(labelled: str | Path, folders: Mapping[str, Path], masks: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the labelled frames of each video."""
    if labelled == "even":
        return {video: labelled_numbers(count) for video, count in masks.items()}
    path = Path(labelled)
    chosen = labelled_list.read(path)
    labelled_list.fit(path, chosen, folders, masks)
    return {video: chosen[video].numbers for video in masks}


def _video(root: Path, masks: Path, shape: tuple[int, int, int], numbers: Sequence[int], hits: Hits) -> Video:
    action, name, (height, width, frames) = masks.parent.name, masks.name, shape
    pictures, file = root / "Rename_Images" / action / name, root / "ReCompress_Videos" / action / f"{name}.avi"
    if pictures.is_dir():
        count = _counted(pictures)
        if count < frames:
            raise MissingFile(
                f"J-HMDB video {name}: {counted(count, 'picture')}, but masks of"
                f" {counted(frames, 'frame')}. Unpack Rename_Images.tar.gz "
                "again, or list the video in [dataset].exclude with a reason."
            )
        if count > frames:
            hits.add("beyond_last_mask", f"{name}: {counted(count, 'frame')}, {counted(frames, 'mask')}")
    elif not file.is_file():
        raise MissingFile(
            f"J-HMDB video {name}: expected the folder {pictures} or the file {file}. Unpack Rename_Images.tar.gz "
            "there, or list the video in [dataset].exclude with a reason."
        )
    path = str(masks / "puppet_mask.mat")
    return Video(
        id=name,
        path=str(pictures if pictures.is_dir() else file),
        split="test",
        height=height,
        width=width,
        frames=frames,
        labelled=tuple(LabelledFrame(number, path) for number in numbers),
    )


def _counted(pictures: Path) -> int:
    """Return the number of pictures in a folder. Raises MissingFile if their numbers have a gap."""
    numbers = [int(match[1]) for name in names(pictures) if (match := _PICTURE.fullmatch(name))]
    for expected, number in enumerate(numbers, start=1):
        if number != expected:
            raise MissingFile(
                f"J-HMDB video {pictures.name}: {pictures} holds {number:05d}.png, but no {expected:05d}.png. "
                "Unpack Rename_Images.tar.gz again, or list the video in [dataset].exclude with a reason."
            )
    return len(numbers)
