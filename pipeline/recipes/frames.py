"""Frames: the letterboxed clip around each labelled frame of a shard's videos.

frames.h5     frames (T, S, S, 3) uint8 RGB a row; ids are "<video>/<labelled frame>"
ledger.json   for each clip: the decoded index behind each of its frames, counted from 0; for each video its count
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.letterbox import Letterbox
from extractors.frames import Decoder, FrameOutOfRange, clip_indices
from extractors.shards import ShardWriter
from pipeline.recipes.job import Job


class FrameSizeMismatch(ValueError):
    """A video whose frames are not of the size that the data set declares."""


def build(job: Job) -> None:
    """Decode each video once, for all its clips. A video that cannot be read fails the shard, by name."""
    section, videos = job.sections["frames"], job.members["records"]["videos"]
    length, size = section["length"], section["size"]
    rows = sum(len(video["labelled"]) for video in videos)
    ledger: dict[str, Any] = {"clips": {}, "videos": {}}
    row = 0
    with (
        Decoder() as decoder,
        ShardWriter(job.out / "frames.h5", rows, {"frames": ((length, size, size, 3), np.uint8)}, {}) as writer,
    ):
        for done, video in enumerate(videos):
            job.progress(done, len(videos))
            frames, clips, count = _decode(decoder, video, length, section["limit_seconds"])
            ledger["videos"][video["id"]] = {"frames": count}
            box = Letterbox(video["height"], video["width"], size)
            for number, indices in clips.items():
                clip = f"{video['id']}/{number:05d}"
                writer.write(row, clip, frames=np.stack([box.image(frames[index]) for index in indices]))
                ledger["clips"][clip] = list(indices)
                row += 1
    (job.out / "ledger.json").write_text(json.dumps(ledger, indent=1), encoding="utf-8")


def _decode(
    decoder: Decoder, video: Mapping[str, Any], length: int, limit_seconds: float
) -> tuple[dict[int, np.ndarray], dict[int, tuple[int, ...]], int]:
    """Frames by index, the indices of each labelled frame's clip, and the number of frames that can be used.

    The declared count says where clips end; where decoding finds another one, that counts. Frames beyond the last
    mask (`last`) are not used.
    """
    path, count = Path(video["path"]), video["frames"]
    for _ in range(2):
        try:
            clips = _clips(video, length, count)
            wanted = sorted({index for indices in clips.values() for index in indices})
            decoded = decoder.clips(path, wanted, limit_seconds)
        except FrameOutOfRange:
            found = decoder.clips(path, (), limit_seconds).count
        else:
            found = decoded.count
        usable = min(found, video["last"] or found)
        if usable == count:
            _check_size(video, decoded.frames)
            return dict(zip(wanted, decoded.frames, strict=True)), clips, count
        count = usable
    _clips(video, length, count)
    raise FrameOutOfRange(f"video {video['id']}: its frame count changed while it was read ({path}); run again")


def _clips(video: Mapping[str, Any], length: int, count: int) -> dict[int, tuple[int, ...]]:
    """Decoded indices of the clip around each labelled frame."""
    clips = {}
    for number in video["labelled"]:
        try:
            clips[number] = clip_indices(number - 1, length, count)
        except FrameOutOfRange as error:
            raise FrameOutOfRange(
                f"video {video['id']}: {error} ({video['path']}). Fetch it again or list it in [dataset].exclude"
                f" with a reason."
            ) from None
    return clips


def _check_size(video: Mapping[str, Any], frames: np.ndarray) -> None:
    found, declared = frames.shape[1:3], (video["height"], video["width"])
    if found != declared:
        raise FrameSizeMismatch(
            f"video {video['id']}: its frames are {found[0]} x {found[1]}, but the data set declares {declared[0]} x"
            f" {declared[1]} (height x width; {video['path']}). Fetch it again or list it in [dataset].exclude."
        )
