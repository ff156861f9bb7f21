"""A2D (Xu et al., CVPR 2015) with A2D-Sentences (Gavrilyuk et al., CVPR 2018) as they are distributed.

root/Release/videoset.csv                                     no header; ninth column 0 = train, 1 = test
root/Release/clips320H/<video>.mp4
root/a2d_annotation.txt                                       the three below also in root/text_annotations/
root/a2d_missed_videos.txt                                    may be absent
root/a2d_annotation_with_instances/<video>/<%05d>.h5          frame numbers count from 1
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data.annotations import (
    EmptyAnnotations,
    MalformedAnnotations,
    MaskSizeMismatch,
    MissingFile,
    Row,
    UnknownExclusion,
    UnknownSplit,
    find,
    read_rows,
    read_sentences,
)
from data.defects import Hits
from data.records import Instances, LabelledFrame, Listing, Query, Video

SENTENCE_COLUMNS = ("video_id", "instance_id", "query")
SPLITS = {"0": "train", "1": "test"}
_VIDEOSET_COLUMNS = 9
_ANNOTATION_FILE = re.compile(r"([0-9]{5})\.h5")


@dataclass(frozen=True)
class Declared:
    """One row of videoset.csv: the video's split, size in pixels, and declared counts of frames and labelled frames."""

    id: str
    split: str
    height: int
    width: int
    frames: int
    labelled: int


def read(root: Path, split: str, exclude: Mapping[str, str]) -> Listing:
    """The videos and sentences of `split` ("train", "test" or "all") in the order of the files; opens no mp4 or h5.

    `exclude` maps video ids to reasons. Raises MissingFile, EmptyAnnotations, MalformedAnnotations, UnknownSplit,
    UnknownExclusion."""
    if split not in (*SPLITS.values(), "all"):
        raise UnknownSplit(f"A2D has no split {split!r}; expected train, test or all.")
    hits, texts = Hits(), (root, root / "text_annotations")
    declared = read_videoset(find([root / "Release"], "videoset.csv", "A2D"), hits)
    queries = read_queries(find(texts, "a2d_annotation.txt", "A2D-Sentences"), hits)
    spoken_of = {query.video for query in queries}
    kept = _kept(declared, _missed(texts, hits, declared), exclude, spoken_of, split, hits)
    listed = {video.id for video in declared}
    for query in queries:
        if query.video not in listed:
            hits.add("sentence_without_video", f"line {query.row}: {query.id}")
    if not kept:
        raise EmptyAnnotations(
            f"A2D at {root}: no video of split {split} has a sentence (of {len(declared)} and {len(queries)}). "
            "Check that videoset.csv and a2d_annotation.txt belong together."
        )
    annotations = find(texts, "a2d_annotation_with_instances", "A2D-Sentences")
    videos = _videos(kept, root / "Release" / "clips320H", annotations, hits)
    ids = {video.id for video in videos}
    return Listing(videos, tuple(query for query in queries if query.video in ids), hits.collected())


def read_videoset(path: Path, hits: Hits) -> tuple[Declared, ...]:
    """The rows of videoset.csv, header or not. Raises MissingFile, EmptyAnnotations, MalformedAnnotations."""
    rows = read_rows(path)
    if rows and rows[0].cells[0] == "VID":
        hits.add("header_line", f"{path.name}, line 1")
        rows = rows[1:]
    if not rows:
        raise EmptyAnnotations(f"{path}: no videos; expected one a line, {_VIDEOSET_COLUMNS} columns. Fetch it again.")
    declared = tuple(_declared(path, row) for row in rows)
    seen: set[str] = set()
    for video, row in zip(declared, rows, strict=True):
        if video.id in seen:
            raise MalformedAnnotations(f"{path}, line {row.line}: video {video.id} is listed twice. Remove one line.")
        seen.add(video.id)
    return declared


def read_queries(path: Path, hits: Hits) -> tuple[Query, ...]:
    """The sentences of a2d_annotation.txt, cleaned. Raises MissingFile, EmptyAnnotations, MalformedAnnotations."""
    return read_sentences(path, SENTENCE_COLUMNS, hits)


def read_missed(path: Path) -> tuple[str, ...]:
    """The video ids of a2d_missed_videos.txt, one a line. Raises MissingFile, MalformedAnnotations."""
    return tuple(row.cells[0].strip() for row in read_rows(path))


def read_instances(path: Path, height: int, width: int) -> Instances:
    """The instances of one annotation file (MATLAB v7.3: axes reversed, two axes where there is one instance).

    Labels come from its `id`, where it has one. Raises MissingFile, MalformedAnnotations, MaskSizeMismatch."""
    name = f"A2D video {path.parent.name}, labelled frame {path.stem} ({path})"
    masks, ids, labels = _stored(path, name)
    if masks.shape[1:] != (height, width):
        found = f"{masks.shape[1]} x {masks.shape[2]}"
        raise MaskSizeMismatch(
            f"{name}: masks of {found}, but the video is {height} x {width} (height x width). "
            "Fetch the annotations again, correct videoset.csv, or list the video in [dataset].exclude with a reason."
        )
    if len(masks) < len(ids):
        raise MalformedAnnotations(f"{name}: {len(masks)} masks for {len(ids)} instance ids. Fetch the file again.")
    hits = ["surplus_mask"] if len(masks) > len(ids) else []
    first = [row for row, instance in enumerate(ids) if instance not in ids[:row]]
    if len(first) < len(ids):
        hits.append("duplicate_instance")
    return Instances(
        masks[first], tuple(ids[row] for row in first), tuple(labels[row] for row in first), tuple(sorted(hits))
    )


def _declared(path: Path, row: Row) -> Declared:
    where = f"{path}, line {row.line}"
    if len(row.cells) != _VIDEOSET_COLUMNS:
        raise MalformedAnnotations(f"{where}: {len(row.cells)} columns; expected {_VIDEOSET_COLUMNS}. Fetch it again.")
    video, (height, width, frames, labelled, usage) = row.cells[0], (cell.strip() for cell in row.cells[4:9])
    if usage not in SPLITS:
        raise MalformedAnnotations(f"{where}: usage {usage!r}; expected 0 (train) or 1 (test). Correct the line.")
    try:
        return Declared(video, SPLITS[usage], int(height), int(width), int(frames), int(labelled))
    except ValueError as error:
        raise MalformedAnnotations(f"{where}: {error}; columns 5 to 8 are height, width and counts.") from None


def _missed(folders: Sequence[Path], hits: Hits, declared: Sequence[Declared]) -> set[str]:
    paths = [path for folder in folders if (path := folder / "a2d_missed_videos.txt").exists()]
    missed = read_missed(paths[0]) if paths else ()
    listed = {video.id for video in declared}
    for video in missed:
        if video not in listed:
            hits.add("missed_video_unknown", video)
    return set(missed)


def _kept(
    declared: Sequence[Declared],
    missed: set[str],
    exclude: Mapping[str, str],
    spoken_of: set[str],
    split: str,
    hits: Hits,
) -> list[Declared]:
    unknown = sorted(set(exclude) - {video.id for video in declared})
    if unknown:
        raise UnknownExclusion(f"[dataset].exclude names {', '.join(unknown)}: not in videoset.csv. Correct the id.")
    kept = []
    for video in declared:
        if split not in (video.split, "all"):
            continue
        if video.id in exclude:
            hits.add("excluded", f"{video.id}: {exclude[video.id]}")
        elif video.id in missed:
            hits.add("missed_video", video.id)
        elif video.id not in spoken_of:
            hits.add("no_sentence", video.id)
        else:
            kept.append(video)
    return kept


def _videos(kept: Sequence[Declared], clips: Path, annotations: Path, hits: Hits) -> tuple[Video, ...]:
    present = {entry.name for entry in os.scandir(clips)} if clips.is_dir() else set()
    absent = [video.id for video in kept if f"{video.id}.mp4" not in present]
    if absent:
        raise MissingFile(
            f"A2D: {len(absent)} of {len(kept)} videos are missing, first {absent[0]}: no {clips / absent[0]}.mp4. "
            "Unpack A2D_main_1_0.tar.bz there, or list them in [dataset].exclude with a reason."
        )
    return tuple(
        Video(
            id=video.id,
            path=str(clips / f"{video.id}.mp4"),
            split=video.split,
            height=video.height,
            width=video.width,
            frames=video.frames,
            labelled=_labelled(video, annotations / video.id, hits),
        )
        for video in kept
    )


def _labelled(video: Declared, folder: Path, hits: Hits) -> tuple[LabelledFrame, ...]:
    names = sorted(entry.name for entry in os.scandir(folder)) if folder.is_dir() else []
    numbers = [int(match[1]) for name in names if (match := _ANNOTATION_FILE.fullmatch(name))]
    if not numbers or numbers[0] < 1:
        raise MissingFile(
            f"A2D video {video.id}: no labelled frame; expected {folder}/<%05d>.h5, counted from 1. "
            "Unpack a2d_annotation_with_instances.zip there, or list the video in [dataset].exclude with a reason."
        )
    if len(numbers) != video.labelled:
        hits.add("labelled_count", f"{video.id}: {len(numbers)} files, {video.labelled} declared")
    if numbers[-1] > video.frames:
        hits.add("labelled_beyond", f"{video.id}: labelled frame {numbers[-1]}, {video.frames} frames declared")
    return tuple(LabelledFrame(number, str(folder / f"{number:05d}.h5")) for number in numbers)


def _stored(path: Path, name: str) -> tuple[UInt8[np.ndarray, "m h w"], tuple[int, ...], tuple[int, ...]]:
    import h5py  # not above: a listing, which reads no masks, is made in processes that stay free of HDF5

    if not path.exists():
        raise MissingFile(f"{name}: no such file. Unpack a2d_annotation_with_instances.zip again.")
    try:
        with h5py.File(path, "r") as file:
            if "instance" not in file or "reMask" not in file:
                raise MalformedAnnotations(
                    f"{name}: holds {', '.join(sorted(file))}; expected reMask and instance. Use the files of "
                    "a2d_annotation_with_instances, not Release/Annotations/mat."
                )
            masks = file["reMask"][...]
            ids = tuple(int(instance) for instance in file["instance"][...].reshape(-1))
            labels = tuple(int(label) for label in file["id"][...].reshape(-1)) if "id" in file else ()
    except OSError as error:
        raise MalformedAnnotations(f"{name}: not a readable HDF5 file ({error}). Fetch it again.") from None
    if masks.ndim not in (2, 3):
        raise MalformedAnnotations(f"{name}: reMask of shape {masks.shape}; expected (n, width, height).")
    masks = masks.reshape(-1, *masks.shape[-2:]).transpose(0, 2, 1)
    return np.ascontiguousarray(masks > 0).astype(np.uint8), ids, labels + (0,) * (len(ids) - len(labels))
