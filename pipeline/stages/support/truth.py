"""The table truth.json of a Masks artifact: the labelled frames and the true masks of their instances."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from data.masks import RunLengths


class InstanceTruth(TypedDict):
    """An instance in a labelled frame: its mask in the frame's own size and its actor-action label; None if unknown."""

    mask: RunLengths | None
    label: int | None


class FrameTruth(TypedDict):
    """A labelled frame: its size in pixels and its instances by id."""

    height: int
    width: int
    instances: dict[str, InstanceTruth]


class TruthTable(TypedDict):
    """The content of truth.json: the labelled frames by clip, and by rule of `data.defects` the clips it applied to."""

    clips: dict[str, FrameTruth]
    rules: dict[str, list[str]]


def read_truth_table(folder: Path) -> TruthTable:
    """Read the truth.json of a Masks artifact."""
    table: TruthTable = json.loads((folder / "truth.json").read_bytes())
    return table


def labelled_frames(folders: Sequence[Path]) -> dict[str, FrameTruth]:
    """Return the labelled frames of several Masks artifacts by clip."""
    frames: dict[str, FrameTruth] = {}
    for folder in folders:
        frames |= read_truth_table(folder)["clips"]
    return frames
