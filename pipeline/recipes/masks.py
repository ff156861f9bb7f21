"""Masks: each instance of each labelled frame of a shard's videos.

masks.h5     large (S, S), medium (S/4, S/4), small (S/16, S/16) uint8 {0, 1} a row; ids are "<clip>/<instance>"
truth.json   for each clip its height and width and, for each instance, the mask in the frame's own size (COCO run
             lengths) and the actor-action label; the records that met a rule of `data.defects`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data import datasets
from data.letterbox import Letterbox
from data.masks import decode_rle, encode_rle, pyramid
from extractors.shards import ShardWriter
from pipeline.recipes.job import Job
from pipeline.recipes.units import Arrays, identity


def build(job: Job) -> None:
    """Read every annotation file, keeping run lengths alone: a shard's masks never lie in memory at once."""
    size, threshold = job.sections["frames"]["size"], job.sections["masks"]["threshold"]
    kind, videos = job.members["records"]["kind"], job.members["records"]["videos"]
    truth: dict[str, Any] = {}
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


def read(kind: str, video: Mapping[str, Any]) -> dict[str, Any]:
    """What truth.json says of one video."""
    clips: dict[str, Any] = {}
    rules: dict[str, list[str]] = {}
    for frame in video["labelled"]:
        clip = f"{video['id']}/{frame['number']:05d}"
        found = datasets.read_instances(kind, Path(frame["path"]), frame["number"], video["height"], video["width"])
        instances = {
            str(instance): {"mask": encode_rle(mask), "label": label}
            for instance, mask, label in zip(found.ids, found.masks, found.labels, strict=True)
        }
        clips[clip] = {"height": video["height"], "width": video["width"], "instances": instances}
        for rule in found.hits:
            rules.setdefault(rule, []).append(clip)
    return {"clips": clips, "rules": rules}


def taken_over(job: Job, video: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same from an earlier artifact, where the video's annotations are unchanged; else None."""
    earlier = job.units.document(video["id"], identity(video), "truth.json")
    if earlier is None:
        return None
    names = [f"{video['id']}/{frame['number']:05d}" for frame in video["labelled"]]
    hits = {rule: [clip for clip in clips if clip in names] for rule, clips in earlier["rules"].items()}
    return {
        "clips": {clip: earlier["clips"][clip] for clip in names},
        "rules": {rule: clips for rule, clips in hits.items() if clips},
    }


def _masks(frame: Mapping[str, Any], instance: str, size: int, threshold: float) -> Arrays:
    box = Letterbox(frame["height"], frame["width"], size)
    masks = pyramid(decode_rle(frame["instances"][instance]["mask"]), box, threshold)
    return {"large": masks.large, "medium": masks.medium, "small": masks.small}


def _arrays(size: int) -> dict[str, tuple[tuple[int, int], type[np.uint8]]]:
    return {
        "large": ((size, size), np.uint8),
        "medium": ((size // 4, size // 4), np.uint8),
        "small": ((size // 16, size // 16), np.uint8),
    }
