"""The table of samples, which assigns to each sentence its mask in a clip."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict


class Sample(TypedDict):
    """One sentence and one labelled frame.

    `clip` is "<video>/<labelled frame>"; `query` is the id of the sentence; `mask` is "<clip>/<instance>", or "" unless
    `shown`; `shard` is the position of the clip's shard, from 0; `group` names what identifies the actor (see
    `data.miniature.scenes.Sentence`), "" if unknown. `text` is None in imported samples."""

    id: str
    clip: str
    query: str
    text: str | None
    mask: str
    shown: bool
    shard: int
    group: str


class SampleTable(TypedDict):
    """The content of samples.json: the samples, the records that match each rule of `data.defects`, and the videos
    without clips with the reasons."""

    samples: list[Sample]
    rules: dict[str, list[str]]
    quarantined: dict[str, str]


def read_sample_table(folder: Path) -> SampleTable:
    """Read the samples.json of a Samples artifact."""
    table: SampleTable = json.loads((folder / "samples.json").read_bytes())
    return table


def inputs_of_samples(inputs: Mapping[str, Sequence[Path]]) -> list[Sample]:
    """Return the samples of the only Samples artifact among the inputs, which are given by stage."""
    (folder,) = inputs["Samples"]
    return read_sample_table(folder)["samples"]
