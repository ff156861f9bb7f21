"""Frames: the letterboxed clip around each labelled frame of a shard's videos.

frames.h5     frames (T, S, S, 3) uint8 RGB a row, and for optical flow the frame that follows (S, S, 3), black with
              ended 1 where the video ends with the clip; ids are "<video>/<labelled frame>"
ledger.json   clips: where the frames of each come from, see `extractors.ledger`; videos: how many frames of each can
              be used and whether a second decoder checked it; rules: the videos that met a rule of `data.defects`;
              quarantined: the videos that cannot be decoded, with the reasons
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.letterbox import Letterbox
from extractors.clips import Source, decode
from extractors.frames import Decoder
from extractors.quarantine import DETERMINISTIC, refuse_more_than, rules_of
from extractors.shards import ShardWriter
from pipeline.recipes.job import Job
from pipeline.recipes.units import Arrays, identity


def build(job: Job) -> None:
    """Decode each video once, for all its clips.

    A video that cannot be decoded, however often one tries, is quarantined: named with its reason, up to
    `dataset.max_failures`. One that took too long or whose decoder was killed fails the task, which is tried again: a
    slow disk never changes content.
    """
    section, videos = job.sections["frames"], job.members["records"]["videos"]
    length, size = section["length"], section["size"]
    rows = sum(len(video["labelled"]) for video in videos)
    ledger: dict[str, Any] = {"clips": {}, "videos": {}, "rules": {}, "quarantined": {}}
    row = 0
    picture = (size, size, 3)
    arrays = {"frames": ((length, *picture), np.uint8), "following": (picture, np.uint8), "ended": ((), np.uint8)}
    with Decoder() as decoder, ShardWriter(job.out / "frames.h5", rows, arrays, {}) as writer:
        for done, video in enumerate(videos):
            job.progress(done, len(videos))
            try:
                found = taken_over(job, video, ledger) or decoded(decoder, video, section, ledger)
            except DETERMINISTIC as error:
                note(ledger, rules_of(error), video["id"])
                ledger["quarantined"][video["id"]] = str(error).replace(video["path"], Path(video["path"]).name)
                refuse_more_than(job.members["records"]["max_failures"], ledger["quarantined"])
                continue
            digests = [writer.write(row + place, name, **clip) for place, (name, clip) in enumerate(found)]
            job.units.record(video["id"], identity(video), digests)
            row += len(digests)
        writer.shorten(row)
    (job.out / "ledger.json").write_text(json.dumps(ledger, indent=1), encoding="utf-8")


def decoded(
    decoder: Decoder, video: Mapping[str, Any], section: Mapping[str, Any], ledger: dict[str, Any]
) -> list[tuple[str, Arrays]]:
    """The rows of a video, with their names; adds it to the ledger. Raises what `extractors.clips.decode` does."""
    verify = chosen(video["id"], section["verify"])
    clips = decode(decoder, source(video), section["length"], section["limit_seconds"], verify)
    note(ledger, clips.rules, video["id"])
    ledger["videos"][video["id"]] = {"frames": clips.usable, "verified": verify}
    box = Letterbox(video["height"], video["width"], section["size"])
    found: list[tuple[str, Arrays]] = []
    for number in clips.indices:
        frames = np.stack([box.image(frame) for frame in clips.frames(number)])
        after = clips.following(number)
        following = np.zeros(frames.shape[1:], np.uint8) if after is None else box.image(after)
        name = f"{video['id']}/{number:05d}"
        found.append((name, {"frames": frames, "following": following, "ended": np.uint8(after is None)}))
        ledger["clips"][name] = clips.ledger(number).document()
    return found


def taken_over(job: Job, video: Mapping[str, Any], ledger: dict[str, Any]) -> list[tuple[str, Arrays]]:
    """The same from an earlier artifact, where the video is unchanged; else none."""
    inputs, names = identity(video), [f"{video['id']}/{number:05d}" for number in video["labelled"]]
    earlier = job.units.document(video["id"], inputs, "ledger.json")
    rows = job.units.rows(video["id"], inputs, "frames.h5", names) if earlier else None
    if rows is None:
        return []
    for rule, hit in earlier["rules"].items():
        note(ledger, [rule] * (video["id"] in hit), video["id"])
    ledger["videos"][video["id"]] = earlier["videos"][video["id"]]
    ledger["clips"] |= {name: earlier["clips"][name] for name in names}
    return list(zip(names, rows, strict=True))


def chosen(video: str, share: float | str) -> bool:
    """Whether a video is among the share to be verified, or "all" are: decided by its id alone."""
    if isinstance(share, str):
        return True
    return int.from_bytes(hashlib.sha256(f"verify {video}".encode()).digest()[:4]) < share * 2**32


def note(ledger: dict[str, Any], rules: Sequence[str], video: str) -> None:
    """Add a video to the records that met some rules."""
    for rule in rules:
        ledger["rules"].setdefault(rule, []).append(video)


def source(video: Mapping[str, Any]) -> Source:
    """The video of a catalogue record."""
    return Source(
        id=video["id"],
        path=Path(video["path"]),
        height=video["height"],
        width=video["width"],
        frames=video["frames"],
        last=video["last"],
        labelled=tuple(video["labelled"]),
    )
