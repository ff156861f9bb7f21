"""The stage Masks, which reads the mask of each instance in each labelled frame of a shard's videos.

masks.h5     one row per instance: large (S, S), medium (S/4, S/4), small (S/16, S/16) uint8 {0, 1}; the row ids are
             "<clip>/<instance>"
truth.json   clips: the height and width of each frame and, for each instance, the mask in the frame's own size (COCO
             run lengths) and the actor-action label; rules: the clips to which a rule of `data.defects` applied
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np

from data import datasets
from data.letterbox import Letterbox
from data.masks import decode_rle, encode_rle, pyramid
from extractors.shards.shard import ShardWriter
from pipeline.sections.dataset.frames import FrameSize
from pipeline.sections.dataset.masks import MasksSection
from pipeline.sections.section import Section
from pipeline.stages.support.job import Job
from pipeline.stages.support.truth import FrameTruth, InstanceTruth, TruthTable
from pipeline.stages.support.units import Arrays, identity


class Settings(Section):
    """The sections that this stage reads."""

    frames: FrameSize
    masks: MasksSection


class LabelledFrame(TypedDict):
    """A labelled frame of a video, counted from 1, and its annotation file."""

    number: int
    path: str
    sha256: str


class VideoRecord(TypedDict):
    """A video of the catalogue with its labelled frames.

    `labels` are those of instances that its files do not know, and `unions` the annotations that an instance unites.
    """

    id: str
    height: int
    width: int
    labelled: list[LabelledFrame]
    labels: NotRequired[dict[str, int]]
    unions: NotRequired[dict[str, list[str]]]


class Records(TypedDict):
    """The videos of a shard and the kind of their data set."""

    kind: str
    videos: list[VideoRecord]


def build(job: Job[Settings, Records]) -> None:
    """Read every annotation file and write masks.h5 and truth.json.

    Masks are kept as run lengths, so that the decoded masks of a shard are never in memory at the same time.
    """
    size, threshold = job.settings.frames.size, job.settings.masks.threshold
    kind, videos = job.records["kind"], job.records["videos"]
    truth: dict[str, FrameTruth] = {}
    rules: dict[str, list[str]] = {}
    rows: dict[str, list[tuple[str, str]]] = {}
    for video in videos:
        of_video = taken_over(job, video) or read(kind, video)
        truth |= of_video["clips"]
        for rule, clips in of_video["rules"].items():
            rules.setdefault(rule, []).extend(clips)
        found = of_video["clips"].items()
        rows[video["id"]] = [(clip, instance) for clip, frame in found for instance in frame["instances"]]
    row, total = 0, sum(map(len, rows.values()))
    with ShardWriter(job.out / "masks.h5", total, _arrays(size), {}) as writer:
        for video in videos:
            of_rows = rows[video["id"]]
            names = [f"{clip}/{instance}" for clip, instance in of_rows]
            taken = job.units.rows(video["id"], identity(video), "masks.h5", names)
            digests = []
            for place, (clip, instance) in enumerate(of_rows):
                job.progress(row, total)
                arrays = taken[place] if taken else _masks(truth[clip], instance, size, threshold)
                digests.append(writer.write(row, names[place], **arrays))
                row += 1
            job.units.record(video["id"], identity(video), digests)
    (job.out / "truth.json").write_text(json.dumps({"clips": truth, "rules": rules}, indent=1), encoding="utf-8")


def read(kind: str, video: VideoRecord) -> TruthTable:
    """Read the annotations of one video and return its part of truth.json."""
    clips: dict[str, FrameTruth] = {}
    rules: dict[str, list[str]] = {}
    labels, height, width = video.get("labels", {}), video["height"], video["width"]
    unions = {int(instance): tuple(parts) for instance, parts in video.get("unions", {}).items()}
    for frame in video["labelled"]:
        clip = f"{video['id']}/{frame['number']:05d}"
        found = datasets.read_instances(kind, Path(frame["path"]), frame["number"], height, width, unions)
        instances: dict[str, InstanceTruth] = {
            str(instance): {"mask": encode_rle(mask), "label": labels.get(str(instance), label)}
            for instance, mask, label in zip(found.ids, found.masks, found.labels, strict=True)
        }
        clips[clip] = {"height": height, "width": width, "instances": instances}
        for rule in found.hits:
            rules.setdefault(rule, []).append(clip)
    return {"clips": clips, "rules": rules}


def taken_over(job: Job[Settings, Records], video: VideoRecord) -> TruthTable | None:
    """Return a video's part of truth.json from an earlier artifact if its annotations are unchanged; else None."""
    earlier = cast(TruthTable | None, job.units.document(video["id"], identity(video), "truth.json"))
    if earlier is None:
        return None
    names = [f"{video['id']}/{frame['number']:05d}" for frame in video["labelled"]]
    hits = {rule: [clip for clip in clips if clip in names] for rule, clips in earlier["rules"].items()}
    return {
        "clips": {clip: earlier["clips"][clip] for clip in names},
        "rules": {rule: clips for rule, clips in hits.items() if clips},
    }


def _masks(frame: FrameTruth, instance: str, size: int, threshold: float) -> Arrays:
    box = Letterbox(frame["height"], frame["width"], size)
    mask = frame["instances"][instance]["mask"]
    assert mask is not None, "a mask of ours is known as it was drawn"
    masks = pyramid(decode_rle(mask), box, threshold)
    return {"large": masks.large, "medium": masks.medium, "small": masks.small}


def _arrays(size: int) -> dict[str, tuple[tuple[int, int], type[np.uint8]]]:
    return {
        "large": ((size, size), np.uint8),
        "medium": ((size // 4, size // 4), np.uint8),
        "small": ((size // 16, size // 16), np.uint8),
    }
