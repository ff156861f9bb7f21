"""Reader of the layouts of Ref-YouTube-VOS, Ref-DAVIS17 and MeViS (docs/own_data.md), for splits with masks.

Ref-YouTube-VOS, and Ref-DAVIS17 as people convert it:
root/meta_expressions/<split>/meta_expressions.json       {"videos": {video: {"frames": [...], "expressions": {...}}}}
root/<split>/JPEGImages/<video>/<frame>.jpg
root/<split>/Annotations/<video>/<frame>.png              a pixel is the number of its object, 0 the background
MeViS, whose sentences mean several objects at once:
root/<split>/meta_expressions.json, root/<split>/JPEGImages/<video>/<frame>.jpg
root/<split>/mask_dict.json                               {annotation: [COCO's run lengths or null for each frame]}
Ref-DAVIS17 as distributed:
root/davis_text_annotations/Davis17_annot1.txt, ...       lines: video object "expression"
root/DAVIS/JPEGImages/480p/<video>/<frame>.jpg, root/DAVIS/Annotations/480p/<video>/<frame>.png
root/DAVIS/ImageSets/2017/train.txt, val.txt

A frame's number is its place among the pictures of its video, from 1. The id of a sentence is
video/instance/expression. In MeViS, sentences about the same objects share an instance, which has the number of the
first of them + 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.defects import Hits
from data.readers import instance_masks
from data.readers.annotations import EmptyAnnotations, MalformedAnnotations, MissingFile, UnknownExclusion, mask_hits
from data.readers.annotations import names as names_in
from data.readers.picture_folder import picture_names, stem
from data.readers.rvos import mask_dict
from data.readers.rvos.expressions import Clip, Expression
from data.readers.rvos.labelled_frames import Choice
from data.readers.rvos.layouts import Source, sources, video_folders
from data.readers.sentence_table import Problems
from data.records import Instances, LabelledFrame, Listing, Query, Video
from data.wording import counted


@dataclass
class _Reading:
    """What one reading chooses and collects."""

    root: Path
    choice: Choice
    hits: Hits
    problems: Problems

    def name(self, path: Path) -> str:
        return str(path.relative_to(self.root))


def read(root: Path, split: str, exclude: Mapping[str, str], labelled: str) -> Listing:
    """Return the videos and sentences of `split` ("train", "test" or "all"), in the order of their file.

    `labelled` chooses the labelled frames (`data.readers.rvos.labelled_frames`). No video and no mask is opened; the
    size of a video is read from its first mask or picture. Raises MissingFile, MalformedAnnotations, EmptyAnnotations,
    UnknownSplit, UnknownExclusion, UnknownChoice, NoMasks; BadFolder with all that is wrong."""
    reading = _Reading(root, Choice.parse(labelled), Hits(), Problems(root))
    found = sources(root, split, reading.problems)
    listed = {clip.id for source in found for clip in source.clips}
    if (unknown := sorted(set(exclude) - listed)) and (unknown := sorted(set(unknown) - set(video_folders(root)))):
        raise UnknownExclusion(f"[dataset].exclude names {', '.join(unknown)}: no video of {root}. Correct it.")
    videos: list[Video] = []
    queries: list[Query] = []
    for source in found:
        for clip in source.clips:
            if clip.id in exclude:
                reading.hits.add("excluded", f"{clip.id}: {exclude[clip.id]}")
            elif not clip.expressions:
                reading.hits.add("no_sentence", clip.id)
            elif (video := _video(source, clip, reading)) is not None:
                videos.append(video)
                queries += _queries(clip)
    ids = [video.id for video in videos]
    for video_id in sorted({each for each in ids if ids.count(each) > 1} if len(set(ids)) < len(ids) else ()):
        reading.problems.add("train and test", f"both have the video {video_id}", "remove one")
    reading.problems.raise_if_any()
    if not videos:
        raise EmptyAnnotations(f"{root}: no video of the split {split} has an expression. Correct [dataset].root.")
    return Listing(tuple(videos), tuple(queries), reading.hits.collected())


def read_instances(path: Path, number: int, height: int, width: int, unions: Mapping[int, Sequence[str]]) -> Instances:
    """Read the instances of frame `number`, counted from 1, from its PNG file, or from mask_dict.json.

    `unions` maps the instances to the annotations of mask_dict.json that they unite; an instance of which none is in
    the frame is left out. Raises MissingFile, MalformedAnnotations, MaskSizeMismatch."""
    if not unions:
        masks, ids = instance_masks.split(instance_masks.read_png(path, height, width))
        return Instances(masks, ids, (0,) * len(ids), mask_hits(masks))
    parts = mask_dict.masks(path, number, height, width, sorted({each for union in unions.values() for each in union}))
    shown = {
        instance: [parts[each] for each in union if each in parts]
        for instance, union in sorted(unions.items())
        if any(each in parts for each in union)
    }
    masks = instance_masks.stacked((np.bitwise_or.reduce(each) for each in shown.values()), height, width)
    hits = tuple(rule for rule in mask_hits(masks) if rule != "overlapping_masks")  # unions share objects
    return Instances(masks, tuple(shown), (0,) * len(shown), hits)


def appears(path: Path, instance: int, unions: Mapping[int, Sequence[str]]) -> bool:
    """Return whether an instance is in any mask of a video, given the file of one of its labelled frames.

    Raises MissingFile, MalformedAnnotations."""
    if unions:
        return mask_dict.appears(path, unions[instance])
    files = [path.with_name(name) for name in names_in(path.parent) if name.endswith(".png")]
    return any((instance_masks.read_png(file, *instance_masks.png_size(file)) == instance).any() for file in files)


def _video(source: Source, clip: Clip, reading: _Reading) -> Video | None:
    """Return a video with its labelled frames, or None if something is wrong with it."""
    folder, problems = source.pictures / clip.id, reading.problems
    try:
        found = picture_names(folder)
    except (MalformedAnnotations, MissingFile) as error:
        problems.add(reading.name(folder), str(error), "")
        return None
    if not found:
        problems.add(reading.name(folder), "holds no picture", "unpack the pictures again, or exclude the video")
        return None
    numbers = {stem(name): number for number, name in enumerate(found, start=1)}
    before = len(problems)
    listed = tuple(numbers) if clip.frames is None else _listed(source, clip, clip.frames, numbers, reading)
    if len(problems) > before or not listed:
        return None
    try:
        if source.unions:
            chosen = reading.choice.of(listed)
            size = instance_masks.picture_size(folder / found[0])
            places = dict.fromkeys(chosen, source.masks)
        else:
            chosen = reading.choice.of(_masked(source, clip, listed, reading))
            places = {frame: source.masks / clip.id / f"{frame}.png" for frame in chosen}
            size = instance_masks.png_size(places[chosen[0]]) if chosen else (0, 0)
    except (MissingFile, MalformedAnnotations) as error:
        problems.add(f"video {clip.id}", str(error), "")
        return None
    labelled = tuple(LabelledFrame(numbers[frame], str(places[frame])) for frame in chosen)
    unions = {instance: each.target[1] for each, instance in _instances(clip) if each.target[1]}
    return Video(clip.id, str(folder), source.split, *size, len(found), labelled, unions=unions) if labelled else None


def _listed(
    source: Source, clip: Clip, frames: Sequence[str], numbers: Mapping[str, int], reading: _Reading
) -> tuple[str, ...]:
    """Return the listed frames, each of which must have a picture, in their order."""
    where, folder, last = f"video {clip.id}", reading.name(source.pictures / clip.id), ""
    for frame in frames:
        if frame not in numbers:
            reading.problems.add(where, f"frame {frame} is listed, but not in {folder}", "unpack the pictures again")
        elif frame == last:
            reading.problems.add(where, f"frame {frame} is listed twice", "list it once")
        elif last and numbers[frame] < numbers[last]:
            reading.problems.add(where, f"frame {frame} is listed after {last}", "list the frames once, in their order")
        last = frame if frame in numbers else last
    if more := sorted(set(numbers) - set(frames)):
        if source.unions:
            what = f"{folder} holds the picture {more[0]}, which is not listed"
            reading.problems.add(where, what, f"list it or remove it, since {source.masks.name} counts listed frames")
        reading.hits.add("unlisted_frame", f"{clip.id}: {counted(len(more), 'picture')}, {more[0]} ...")
    return tuple(frames)


def _masked(source: Source, clip: Clip, listed: Sequence[str], reading: _Reading) -> tuple[str, ...]:
    """Return the listed frames that have a PNG file of masks."""
    folder = source.masks / clip.id
    found = {name.removesuffix(".png") for name in names_in(folder) if name.endswith(".png")}
    if more := sorted(found.difference(listed)):
        reading.hits.add("unlisted_frame", f"{clip.id}: {counted(len(more), 'mask')}, {more[0]} ...")
    chosen = tuple(frame for frame in listed if frame in found)
    if not chosen:
        what = "holds no mask of a listed frame"
        reading.problems.add(reading.name(folder), what, "unpack the masks again, or exclude the video")
    return chosen


def _instances(clip: Clip) -> list[tuple[Expression, int]]:
    """Return each expression with its instance: its object, or the number of the first one of the same union + 1."""
    first: dict[tuple[str, ...], int] = {}
    for each in sorted(clip.expressions, key=lambda each: each.number):
        first.setdefault(each.target[1], each.number + 1)
    return [(each, each.target[0] or first[each.target[1]]) for each in clip.expressions]


def _queries(clip: Clip) -> list[Query]:
    return [Query(clip.id, instance, each.text, each.row, each.number) for each, instance in _instances(clip)]
