"""Masks: each instance of each labelled frame of a shard's videos.

masks.h5     large (S, S), medium (S/4, S/4), small (S/16, S/16) uint8 {0, 1} a row; ids are "<clip>/<instance>"
truth.json   for each clip its height and width and, for each instance, the mask in the frame's own size (COCO run
             lengths) and the actor-action label; the records that met a rule of `data.defects`
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from data import datasets
from data.letterbox import Letterbox
from data.masks import decode_rle, encode_rle, pyramid
from extractors.shards import ShardWriter
from pipeline.recipes.job import Job


def build(job: Job) -> None:
    """Read every annotation file, keeping run lengths alone: a shard's masks never lie in memory at once."""
    size, threshold = job.sections["frames"]["size"], job.sections["masks"]["threshold"]
    kind, videos = job.members["records"]["kind"], job.members["records"]["videos"]
    frames = [(video, frame) for video in videos for frame in video["labelled"]]
    truth: dict[str, Any] = {}
    rules: dict[str, list[str]] = {}
    rows: list[tuple[str, str]] = []
    for video, frame in frames:
        clip = f"{video['id']}/{frame['number']:05d}"
        found = datasets.read_instances(kind, Path(frame["path"]), frame["number"], video["height"], video["width"])
        instances = {
            str(instance): {"mask": encode_rle(mask), "label": label}
            for instance, mask, label in zip(found.ids, found.masks, found.labels, strict=True)
        }
        truth[clip] = {"height": video["height"], "width": video["width"], "instances": instances}
        rows += [(clip, instance) for instance in instances]
        for rule in found.hits:
            rules.setdefault(rule, []).append(clip)
    with ShardWriter(job.out / "masks.h5", len(rows), _arrays(size), {}) as writer:
        for row, (clip, instance) in enumerate(rows):
            job.progress(row, len(rows))
            box = Letterbox(truth[clip]["height"], truth[clip]["width"], size)
            masks = pyramid(decode_rle(truth[clip]["instances"][instance]["mask"]), box, threshold)
            arrays = {"large": masks.large, "medium": masks.medium, "small": masks.small}
            writer.write(row, f"{clip}/{instance}", **arrays)
    (job.out / "truth.json").write_text(json.dumps({"clips": truth, "rules": rules}, indent=1), encoding="utf-8")


def _arrays(size: int) -> dict[str, tuple[tuple[int, int], type[np.uint8]]]:
    return {
        "large": ((size, size), np.uint8),
        "medium": ((size // 4, size // 4), np.uint8),
        "small": ((size // 16, size // 16), np.uint8),
    }
