"""Quarantine of videos that fail to decode at every attempt: they are left out, and the reasons are recorded."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.wording import counted
from extractors.video.failures import DecodersDisagree, FrameOutOfRange, FrameSizeMismatch, UnreadableVideo

# Errors that occur again at every attempt, unlike time-outs and killed decoders.
DETERMINISTIC = (UnreadableVideo, FrameOutOfRange, FrameSizeMismatch, DecodersDisagree)
_SHOWN = 3  # number of videos named in an error


class TooManyFailures(RuntimeError):
    """Raised if more videos are unreadable than the configuration allows."""


def quarantined(folders: Sequence[Path], limit: int) -> dict[str, str]:
    """Return the quarantined videos of Frames artifacts, id -> reason.

    Raises TooManyFailures if there are more than `limit`."""
    found: dict[str, str] = {}
    for folder in folders:
        found |= json.loads((folder / "ledger.json").read_bytes())["quarantined"]
    refuse_more_than(limit, found)
    return dict(sorted(found.items()))


def rules_of(error: Exception) -> tuple[str, ...]:
    """Return the rules of `data.defects` that a video with this error matches."""
    return ("label_past_end", "quarantined") if isinstance(error, FrameOutOfRange) else ("quarantined",)


def refuse_more_than(limit: int, found: Mapping[str, str]) -> None:
    """Raise TooManyFailures, with the first reasons, if more than `limit` videos were found unreadable."""
    if len(found) > limit:
        first = " ".join(f"({number}) {found[video]}" for number, video in enumerate(sorted(found)[:_SHOWN], 1))
        raise TooManyFailures(
            f"{counted(len(found), 'unreadable video')}, {limit} allowed (dataset.max_failures): {first}"
            " Fetch them again, list "
            "them in [dataset].exclude with a reason, or allow more."
        )
