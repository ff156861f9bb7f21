"""The stage Samples, which pairs each sentence with the masks of its instance.

samples.json   samples: a list of {id, clip, query, text, mask, shown, shard, group}; `shard` is the index of the role's
               shard, from 0, and a mask that is not `shown` is empty
               rules: the records to which a rule of `data.defects` applied
               quarantined: the videos without clips, with the reasons
"""

from __future__ import annotations

import json
from typing import Literal, NotRequired, TypedDict

from extractors.shards.sample_table import Sample, SampleTable
from extractors.video.quarantine import quarantined
from pipeline.sections.section import Section
from pipeline.stages.support.job import Job


class Settings(Section):
    """The sections that this stage reads: none."""


class Query(TypedDict):
    """A sentence about an instance of a video; `group` is the attribute that identifies the instance, "" if unknown.

    `frames` are the labelled frames that it is about; all if they are not given.
    """

    id: str
    video: str
    instance: int
    text: str
    group: str
    frames: NotRequired[list[int]]


class Quarantine(TypedDict):
    """The maximal number of unreadable videos of the split."""

    limit: int


class Records(TypedDict):
    """The sentences of a role, and how to treat a sentence whose instance is absent from a labelled frame."""

    queries: list[Query]
    absent: Literal["drop", "empty"]
    quarantine: Quarantine


def build(job: Job[Settings, Records]) -> None:
    """Pair every sentence with the labelled frames of its video and write samples.json.

    Frames that do not show the sentence's instance are listed under a rule, and dropped or kept with an empty mask.
    Raises `NoSamples` if there is no pair.
    """
    records = job.records
    unreadable = quarantined(job.inputs["Frames"], records["quarantine"]["limit"])
    frames: dict[str, list[tuple[str, int, list[int]]]] = {}
    for shard, folder in enumerate(job.inputs["Masks"]):
        for clip, truth in json.loads((folder / "truth.json").read_bytes())["clips"].items():
            instances = [int(instance) for instance in truth["instances"]]
            frames.setdefault(clip.rpartition("/")[0], []).append((clip, shard, instances))
    samples: list[Sample] = []
    absent: list[str] = []
    for query in records["queries"]:
        if query["video"] in unreadable:
            continue
        for clip, shard, instances in frames.get(query["video"], []):
            number = clip.rpartition("/")[2]
            if "frames" in query and int(number) not in query["frames"]:
                continue
            name = f"{query['id']}@{number}"
            shown = query["instance"] in instances
            if not shown:
                absent.append(name)
                if records["absent"] == "drop":
                    continue
            samples.append(
                {
                    "id": name,
                    "clip": clip,
                    "query": query["id"],
                    "text": query["text"],
                    "mask": f"{clip}/{query['instance']}",
                    "shown": shown,
                    "shard": shard,
                    "group": query["group"],
                }
            )
    if not samples:
        raise NoSamples("no sentence means an instance that any labelled frame shows; check dataset.root and its files")
    document: SampleTable = {"samples": samples, "rules": {"absent_instance": absent}, "quarantined": unreadable}
    (job.out / "samples.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


class NoSamples(ValueError):
    """Error of a set without any (sentence, frame) pair."""
