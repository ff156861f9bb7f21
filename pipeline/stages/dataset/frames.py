"""The stage Frames, which decodes the letterboxed clip around each labelled frame of a shard's videos.

frames.h5     one row per clip: frames (T, S, S, 3) uint8 RGB; following (S, S, 3), the next frame for the optical flow;
              ended, which is 1 if the video ends with the clip (then following is black). The row ids are
              "<video>/<labelled frame>"
ledger.json   clips: the source of each clip's frames, see `extractors.video.ledger`; videos: the number of usable
              frames of each and whether a second decoder verified it; rules: the videos to which a rule of
              `data.defects` applied; quarantined: the videos that cannot be decoded, with the reasons
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict, cast

import numpy as np

from data.letterbox import Letterbox
from extractors.shards.shard import ShardWriter
from extractors.video.clips import Source, decode
from extractors.video.decoder import Decoder
from extractors.video.quarantine import DETERMINISTIC, refuse_more_than, rules_of
from pipeline.sections.dataset.frames import FramesSection
from pipeline.sections.section import Section
from pipeline.stages.support.job import Job
from pipeline.stages.support.units import Arrays, identity


class Settings(Section):
    """The sections that this stage reads."""

    frames: FramesSection


class VideoRecord(TypedDict):
    """A video of the catalogue, the numbers of its labelled frames, and its last usable frame (0: no limit)."""

    id: str
    path: str
    sha256: str
    height: int
    width: int
    frames: int
    labelled: list[int]
    last: int


class Records(TypedDict):
    """The videos of a shard, and the maximal number of unreadable ones that may be left out."""

    videos: list[VideoRecord]
    max_failures: int


class UsableVideo(TypedDict):
    """The number of usable frames of a video, and whether a second decoder verified it."""

    frames: int
    verified: bool


class Ledger(TypedDict):
    """The content of ledger.json."""

    clips: dict[str, dict[str, object]]
    videos: dict[str, UsableVideo]
    rules: dict[str, list[str]]
    quarantined: dict[str, str]


def build(job: Job[Settings, Records]) -> None:
    """Decode each video once for all its clips, and write frames.h5 and ledger.json.

    A video that fails to decode deterministically is quarantined: it is listed with the reason, up to
    `dataset.max_failures` videos. If decoding timed out or the decoder was killed, the task fails and is tried again,
    so that a slow disk never changes the content.
    """
    section, videos = job.settings.frames, job.records["videos"]
    rows = sum(len(video["labelled"]) for video in videos)
    ledger: Ledger = {"clips": {}, "videos": {}, "rules": {}, "quarantined": {}}
    row = 0
    picture = (section.size, section.size, 3)
    arrays = {
        "frames": ((section.length, *picture), np.uint8),
        "following": (picture, np.uint8),
        "ended": ((), np.uint8),
    }
    with Decoder() as decoder, ShardWriter(job.out / "frames.h5", rows, arrays, {}) as writer:
        for done, video in enumerate(videos):
            job.progress(done, len(videos))
            try:
                found = taken_over(job, video, ledger) or decoded(decoder, video, section, ledger)
            except DETERMINISTIC as error:
                note(ledger, rules_of(error), video["id"])
                ledger["quarantined"][video["id"]] = str(error).replace(video["path"], Path(video["path"]).name)
                refuse_more_than(job.records["max_failures"], ledger["quarantined"])
                continue
            digests = [writer.write(row + place, name, **clip) for place, (name, clip) in enumerate(found)]
            job.units.record(video["id"], identity(video), digests)
            row += len(digests)
        writer.shorten(row)
    (job.out / "ledger.json").write_text(json.dumps(ledger, indent=1), encoding="utf-8")


def decoded(decoder: Decoder, video: VideoRecord, section: FramesSection, ledger: Ledger) -> list[tuple[str, Arrays]]:
    """Decode a video, add it to the ledger, and return its rows with their ids.

    Raises the same errors as `clips.decode`.
    """
    verify = chosen(video["id"], section.verify)
    clips = decode(decoder, source(video), section.length, section.limit_seconds, verify)
    note(ledger, clips.rules, video["id"])
    ledger["videos"][video["id"]] = {"frames": clips.usable, "verified": verify}
    box = Letterbox(video["height"], video["width"], section.size)
    found: list[tuple[str, Arrays]] = []
    for number in clips.indices:
        frames = np.stack([box.image(frame) for frame in clips.frames(number)])
        after = clips.following(number)
        following = np.zeros(frames.shape[1:], np.uint8) if after is None else box.image(after)
        name = f"{video['id']}/{number:05d}"
        found.append((name, {"frames": frames, "following": following, "ended": np.uint8(after is None)}))
        ledger["clips"][name] = clips.ledger(number).document()
    return found


def taken_over(job: Job[Settings, Records], video: VideoRecord, ledger: Ledger) -> list[tuple[str, Arrays]]:
    """Return the rows of an unchanged video from an earlier artifact and add it to the ledger; else return no rows."""
    inputs, names = identity(video), [f"{video['id']}/{number:05d}" for number in video["labelled"]]
    earlier = cast(Ledger | None, job.units.document(video["id"], inputs, "ledger.json"))
    if earlier is None or (rows := job.units.rows(video["id"], inputs, "frames.h5", names)) is None:
        return []
    for rule, hit in earlier["rules"].items():
        note(ledger, [rule] * (video["id"] in hit), video["id"])
    ledger["videos"][video["id"]] = earlier["videos"][video["id"]]
    ledger["clips"] |= {name: earlier["clips"][name] for name in names}
    return list(zip(names, rows, strict=True))


def chosen(video: str, share: float | Literal["all"]) -> bool:
    """Return whether a video belongs to the share to be verified; this depends only on its id."""
    if isinstance(share, str):
        return True
    return int.from_bytes(hashlib.sha256(f"verify {video}".encode()).digest()[:4]) < share * 2**32


def note(ledger: Ledger, rules: Sequence[str], video: str) -> None:
    """Add a video to the ledger under each of the rules that applied to it."""
    for rule in rules:
        ledger["rules"].setdefault(rule, []).append(video)


def source(video: VideoRecord) -> Source:
    """Return the video of a catalogue record as a source for decoding."""
    return Source(
        id=video["id"],
        path=Path(video["path"]),
        height=video["height"],
        width=video["width"],
        frames=video["frames"],
        last=video["last"],
        labelled=tuple(video["labelled"]),
    )
