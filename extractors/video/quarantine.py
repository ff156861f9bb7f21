"""Videos that cannot be decoded, whenever and wherever one tries: named with the reason, and left out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from extractors.video.failures import DecodersDisagree, FrameOutOfRange, FrameSizeMismatch, UnreadableVideo

# What comes out the same however often one tries. A time-out, or a decoder that was killed, does not.
DETERMINISTIC = (UnreadableVideo, FrameOutOfRange, FrameSizeMismatch, DecodersDisagree)
_SHOWN = 3  # videos named in an error


class TooManyFailures(RuntimeError):
    """More videos are unreadable than the config allows."""


def quarantined(folders: Sequence[Path], limit: int) -> dict[str, str]:
    """The quarantined videos of Frames artifacts, id -> reason. Raises TooManyFailures where they exceed `limit`."""
    found: dict[str, str] = {}
    for folder in folders:
        found |= json.loads((folder / "ledger.json").read_bytes())["quarantined"]
    refuse_more_than(limit, found)
    return dict(sorted(found.items()))


def rules_of(error: Exception) -> tuple[str, ...]:
    """The rules of `data.defects` that a video which failed so has met."""
    return ("label_past_end", "quarantined") if isinstance(error, FrameOutOfRange) else ("quarantined",)


def refuse_more_than(limit: int, found: Mapping[str, str]) -> None:
    """Raises TooManyFailures, with the first reasons, where more than `limit` videos were found unreadable."""
    if len(found) > limit:
        first = " ".join(f"({number}) {found[video]}" for number, video in enumerate(sorted(found)[:_SHOWN], 1))
        raise TooManyFailures(
            f"{len(found)} unreadable videos, {limit} allowed (dataset.max_failures): {first} Fetch them again, list "
            "them in [dataset].exclude with a reason, or allow more."
        )
