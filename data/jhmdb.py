"""J-HMDB (Jhuang et al., ICCV 2013) with JHMDB-Sentences (Gavrilyuk et al., CVPR 2018). It is only tested on.

root/jhmdb_annotation.txt                                     also in root/text_annotations/
root/puppet_mask/<action>/<video>/puppet_mask.mat             MATLAB v5, part_mask (height, width, T)
root/Rename_Images/<action>/<video>/<%05d>.png                or
root/ReCompress_Videos/<action>/<video>.avi
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io

from data.annotations import (
    EmptyAnnotations,
    MalformedAnnotations,
    MaskSizeMismatch,
    MissingFile,
    UnknownExclusion,
    UnknownSplit,
    find,
    read_sentences,
)
from data.defects import Hits
from data.records import Instances, LabelledFrame, Listing, Query, Video

SENTENCE_COLUMNS = ("video_id", "query")
LABELLED_FRAMES = 3

# What scipy raises on files that are cut short or none of its own.
_UNREADABLE = (
    scipy.io.matlab.MatReadError,
    zlib.error,
    OSError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    NotImplementedError,
)


def read(root: Path, split: str, exclude: Mapping[str, str]) -> Listing:
    """The videos and sentences of `split`, "test" or "all", which are the same, in the order of the sentences.

    Each video has three evenly spaced labelled frames. `exclude` maps video ids to reasons. Opens no video; reads of
    a mask file only the header. Raises MissingFile, EmptyAnnotations, MalformedAnnotations, UnknownSplit,
    UnknownExclusion."""
    if split not in ("test", "all"):
        raise UnknownSplit(f"J-HMDB has no split {split!r}; expected test or all: JHMDB-Sentences is for testing only.")
    hits = Hits()
    queries = read_queries(find((root, root / "text_annotations"), "jhmdb_annotation.txt", "JHMDB-Sentences"), hits)
    masks = _mask_folders(find([root], "puppet_mask", "J-HMDB"))
    kept = _kept(queries, masks, exclude, hits)
    if not kept:
        raise EmptyAnnotations(
            f"J-HMDB at {root}: no video has a sentence ({len(masks)} videos, {len(queries)} sentences). "
            "Check that puppet_mask and jhmdb_annotation.txt belong together."
        )
    videos = tuple(_video(root, masks[name]) for name in kept)
    return Listing(videos, tuple(query for query in queries if query.video in kept), hits.collected())


def read_queries(path: Path, hits: Hits) -> tuple[Query, ...]:
    """The sentences of jhmdb_annotation.txt, cleaned. Raises MissingFile, EmptyAnnotations, MalformedAnnotations."""
    return read_sentences(path, SENTENCE_COLUMNS, hits)


def labelled_numbers(frames: int) -> tuple[int, ...]:
    """The middle frames, counted from 1, of `frames` cut in three: floor((2k + 1) frames / 6) + 1 for k = 0, 1, 2.

    The paper says "uniformly sampled"; its exact frames are unknown."""
    return tuple((2 * k + 1) * frames // (2 * LABELLED_FRAMES) + 1 for k in range(LABELLED_FRAMES))


def read_instances(path: Path, number: int, height: int, width: int) -> Instances:
    """The one instance, 0, of frame `number` (from 1) of a puppet mask file; its label is unknown.

    Raises MissingFile, MalformedAnnotations, MaskSizeMismatch."""
    name = f"J-HMDB video {path.parent.name}, labelled frame {number} ({path})"
    frames = _shape(path)[2]
    if not 1 <= number <= frames:
        raise MalformedAnnotations(f"{name}: the file has masks of frames 1 to {frames}. Fetch it again.")
    try:
        mask = scipy.io.loadmat(path, variable_names=["part_mask"])["part_mask"][:, :, number - 1]
    except _UNREADABLE as error:
        raise MalformedAnnotations(f"{name}: its masks do not read ({error}). Fetch the file again.") from None
    if mask.shape != (height, width):
        raise MaskSizeMismatch(
            f"{name}: a mask of {mask.shape[0]} x {mask.shape[1]}, but the video is {height} x {width}. "
            "Fetch the masks again, or list the video in [dataset].exclude with a reason."
        )
    return Instances((mask > 0).astype(np.uint8)[np.newaxis], (0,), (0,), ())


def _mask_folders(root: Path) -> dict[str, Path]:
    actions = (action for action in sorted(root.iterdir()) if action.is_dir())
    return {video.name: video for action in actions for video in sorted(action.iterdir()) if video.is_dir()}


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


def _video(root: Path, masks: Path) -> Video:
    action, name, path = masks.parent.name, masks.name, masks / "puppet_mask.mat"
    height, width, frames = _shape(path)
    images, file = root / "Rename_Images" / action / name, root / "ReCompress_Videos" / action / f"{name}.avi"
    if not images.is_dir() and not file.is_file():
        raise MissingFile(
            f"J-HMDB video {name}: expected the folder {images} or the file {file}. Unpack Rename_Images.tar.gz there, "
            "or list the video in [dataset].exclude with a reason."
        )
    return Video(
        id=name,
        path=str(images if images.is_dir() else file),
        split="test",
        height=height,
        width=width,
        frames=frames,
        labelled=tuple(LabelledFrame(number, str(path)) for number in labelled_numbers(frames)),
    )


def _shape(path: Path) -> tuple[int, int, int]:
    if not path.exists():
        raise MissingFile(f"J-HMDB video {path.parent.name}: no file {path}. Unpack puppet_mask.zip again.")
    try:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
    except _UNREADABLE as error:
        raise MalformedAnnotations(f"{path}: not a MATLAB v5 file ({error}). Fetch it again.") from None
    shape = shapes.get("part_mask", ())
    if len(shape) != 3 or min(shape) < 1:
        raise MalformedAnnotations(f"{path}: part_mask {shape}; expected (height, width, frames). Fetch it again.")
    height, width, frames = shape
    return int(height), int(width), int(frames)
