"""Reader of A2D (Xu et al., CVPR 2015) with A2D-Sentences (Gavrilyuk et al., CVPR 2018), in their published layout.

root/Release/videoset.csv                                     no header; ninth column 0 = train, 1 = test
root/Release/clips320H/<video>.mp4                            or clips320; upper or lower case
root/a2d_annotation.txt                                       one sentence per line
root/a2d_missed_videos.txt                                    optional
root/a2d_annotation_with_instances/<video>/<%05d>.h5          frame numbers count from 1

The last three may also be in root/text_annotations/ or in root/Release/.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from data.defects import Hits
from data.readers import stored_arrays
from data.readers.annotations import (
    EmptyAnnotations,
    MalformedAnnotations,
    MaskSizeMismatch,
    MissingFile,
    Row,
    UnknownExclusion,
    UnknownSplit,
    binary_masks,
    find,
    integer,
    mask_hits,
    names,
    read_rows,
    read_sentences,
    video_id,
)
from data.records import LABELS, Instances, LabelledFrame, Listing, Query, Video
from data.wording import counted, numbered

SENTENCE_COLUMNS = ("video_id", "instance_id", "query")
SPLITS = {"0": "train", "1": "test"}
CLIPS = ("clips320H", "clips320")  # the README of MTTR has CLIPS320
_VIDEOSET_COLUMNS = 9
_ANNOTATION_FILE = re.compile(r"([0-9]{5})\.h5")

# The errors that h5py raises for files that are truncated, corrupted or not HDF5.
_UNREADABLE = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    IndexError,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True)
class Declared:
    """One row of videoset.csv: the split, the size in pixels, the declared numbers of frames and labelled frames."""

    id: str
    split: str
    height: int
    width: int
    frames: int
    labelled: int


def read(root: Path, split: str, exclude: Mapping[str, str]) -> Listing:
    """Return the videos and sentences of `split` ("train", "test" or "all") in file order; no mp4 or h5 file is opened.

    `exclude` maps the ids of videos to leave out to the reasons. Raises MissingFile, EmptyAnnotations,
    MalformedAnnotations, UnknownSplit, UnknownExclusion."""
    if split not in (*SPLITS.values(), "all"):
        raise UnknownSplit(f"A2D has no split {split!r}; expected train, test or all.")
    hits, texts = Hits(), _texts(root)
    declared, queries = read_text(root, hits)
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
    videos = _videos(kept, _clips(root / "Release"), annotations, hits)
    ids = {video.id for video in videos}
    return Listing(videos, tuple(query for query in queries if query.video in ids), hits.collected())


def read_text(root: Path, hits: Hits) -> tuple[tuple[Declared, ...], tuple[Query, ...]]:
    """Return all rows of videoset.csv and all sentences, of both splits; no video is left out yet.

    Raises MissingFile, EmptyAnnotations, MalformedAnnotations."""
    declared = read_videoset(find([root / "Release"], "videoset.csv", "A2D"), hits)
    return declared, read_queries(find(_texts(root), "a2d_annotation.txt", "A2D-Sentences"), hits)


def read_videoset(path: Path, hits: Hits) -> tuple[Declared, ...]:
    """Return the rows of videoset.csv without the header, if it has one.

    Raises MissingFile, EmptyAnnotations, MalformedAnnotations."""
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
    """Return the cleaned sentences of a2d_annotation.txt.

    Raises MissingFile, EmptyAnnotations, MalformedAnnotations."""
    return read_sentences(path, SENTENCE_COLUMNS, hits)


def read_missed(path: Path) -> tuple[str, ...]:
    """Return the video ids of a2d_missed_videos.txt, one per line. Raises MissingFile, MalformedAnnotations."""
    rows = read_rows(path)
    for row in rows:
        if len(row.cells) != 1:
            raise MalformedAnnotations(
                f"{path}, line {row.line}: {counted(len(row.cells), 'column')}; expected one video id."
            )
    return tuple(video_id(f"{path}, line {row.line}", row.cells[0].strip()) for row in rows)


def read_instances(path: Path, height: int, width: int) -> Instances:
    """Read the instances of one annotation file (MATLAB v7.3: the axes are reversed; a single mask has only two axes).

    The labels are read from `id`; they are 0 if the file has no `id`. Raises MissingFile, MalformedAnnotations,
    MaskSizeMismatch."""
    name = f"A2D video {path.parent.name}, labelled frame {path.stem} ({path})"
    stored, ids, labels = _stored(path, name, height, width)
    if len(stored) < len(ids):
        raise MalformedAnnotations(
            f"{name}: {counted(len(stored), 'mask')} for {counted(len(ids), 'instance id')}. Fetch the file again."
        )
    if min(ids) < 0:
        raise MalformedAnnotations(f"{name}: instance id {min(ids)}; expected 0 or more. Fetch the file again.")
    if len(labels) not in (0, len(ids), len(stored)) or not set(labels) <= set(LABELS):
        raise MalformedAnnotations(
            f"{name}: labels {', '.join(map(str, labels))} of {counted(len(stored), 'mask')}; expected"
            " one each of A2D's "
            f"{len(LABELS)}, 10 * actor + action. Fetch the file again."
        )
    first = [row for row, instance in enumerate(ids) if instance not in ids[:row]]
    if len(first) < len(ids) - 1:  # A2D-Sentences has one frame with one repeated id
        raise MalformedAnnotations(f"{name}: the instance ids {ids}; expected different ones. Fetch the file again.")
    masks = binary_masks(name, stored)[first]
    hits = ("surplus_mask",) * (len(stored) > len(ids)) + ("duplicate_instance",) * (len(first) < len(ids))
    return Instances(
        masks=masks,
        ids=tuple(ids[row] for row in first),
        labels=tuple(labels[row] if labels else 0 for row in first),
        hits=tuple(sorted(hits + mask_hits(masks))),
    )


def _texts(root: Path) -> tuple[Path, ...]:
    return root, root / "text_annotations", root / "Release"


def _clips(release: Path) -> Path:
    """Return the folder of the clips, or the path with the first of its possible names if there is none."""
    present = names(release)
    for name in CLIPS:
        if alike := [other for other in present if other.lower() == name.lower()]:
            return release / (name if name in alike else alike[0])
    return release / CLIPS[0]


def _declared(path: Path, row: Row) -> Declared:
    where = f"{path}, line {row.line}"
    if len(row.cells) != _VIDEOSET_COLUMNS:
        raise MalformedAnnotations(
            f"{where}: {counted(len(row.cells), 'column')}; expected {_VIDEOSET_COLUMNS}. Fetch it again."
        )
    video, (*numbers, usage) = video_id(where, row.cells[0]), (cell.strip() for cell in row.cells[4:9])
    if usage not in SPLITS:
        raise MalformedAnnotations(f"{where}: usage {usage!r}; expected 0 (train) or 1 (test). Correct the line.")
    try:
        height, width, frames, labelled = map(integer, numbers)
    except ValueError as error:
        raise MalformedAnnotations(f"{where}: {error}; columns 5 to 8 are height, width and counts.") from None
    if 0 in (height, width, frames):
        raise MalformedAnnotations(
            f"{where}: {counted(frames, 'frame')} of {height} x {width}; expected 1 or more of each."
        )
    return Declared(video, SPLITS[usage], height, width, frames, labelled)


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
    present = set(names(clips))
    absent = [video.id for video in kept if f"{video.id}.mp4" not in present]
    if absent:
        raise MissingFile(
            f"A2D: {len(absent)} of {counted(len(kept), 'video')} {numbered(len(absent), 'is', 'are')}"
            f" missing, first {absent[0]}: no {clips / absent[0]}.mp4. "
            "Unpack A2D_main_1_0.tar.bz there, or list them in [dataset].exclude with a reason."
        )
    return tuple(
        Video(
            id=video.id,
            path=f"{clips}/{video.id}.mp4",
            split=video.split,
            height=video.height,
            width=video.width,
            frames=video.frames,
            labelled=_labelled(video, annotations / video.id, hits),
        )
        for video in kept
    )


def _labelled(video: Declared, folder: Path, hits: Hits) -> tuple[LabelledFrame, ...]:
    files = [name for name in names(folder) if name.endswith(".h5") and not name.startswith(".")]
    numbers = [int(match[1]) for name in files if (match := _ANNOTATION_FILE.fullmatch(name))]
    if len(numbers) < len(files):
        odd = next(name for name in files if not _ANNOTATION_FILE.fullmatch(name))
        raise MalformedAnnotations(
            f"A2D video {video.id}: the file {folder}/{odd}; expected <%05d>.h5, of five digits. Rename or remove it."
        )
    if not numbers or numbers[0] < 1:
        raise MissingFile(
            f"A2D video {video.id}: no labelled frame; expected {folder}/<%05d>.h5, counted from 1. "
            "Unpack a2d_annotation_with_instances.zip there, or list the video in [dataset].exclude with a reason."
        )
    if len(numbers) != video.labelled:
        hits.add("labelled_count", f"{video.id}: {counted(len(numbers), 'file')}, {video.labelled} declared")
    if numbers[-1] > video.frames:
        hits.add(
            "labelled_beyond", f"{video.id}: labelled frame {numbers[-1]}, {counted(video.frames, 'frame')} declared"
        )
    return tuple(LabelledFrame(number, f"{folder}/{number:05d}.h5") for number in numbers)


# ---- one annotation file


def _stored(
    path: Path, name: str, height: int, width: int
) -> tuple[Shaped[np.ndarray, "m h w"], tuple[int, ...], tuple[int, ...]]:
    """Return the masks (upright, with the stored values), the instance ids and the labels."""
    import h5py  # imported here, so that processes that only list videos do not load HDF5

    if not path.exists():
        raise MissingFile(f"{name}: no such file. Unpack a2d_annotation_with_instances.zip again.")
    try:
        with h5py.File(path, "r") as file:
            stored = {key: file[key] for key in ("reMask", "instance", "id") if key in file}
            if not {"reMask", "instance"} <= set(stored):
                raise MalformedAnnotations(
                    f"{name}: holds {', '.join(sorted(file))}; expected reMask and instance. Use the files of "
                    "a2d_annotation_with_instances, not Release/Annotations/mat."
                )
            for key, values in stored.items():
                if not isinstance(values, h5py.Dataset):
                    raise MalformedAnnotations(f"{name}: {key} is no array. Fetch the file again.")
            labels = stored_arrays.integers(stored["id"], name) if "id" in stored else ()
            masks = stored_arrays.masks(stored["reMask"], name, height, width)
            return masks, stored_arrays.integers(stored["instance"], name), labels
    except (MalformedAnnotations, MaskSizeMismatch):
        raise
    except _UNREADABLE as error:
        raise MalformedAnnotations(f"{name}: not a readable HDF5 file ({error}). Fetch it again.") from None
