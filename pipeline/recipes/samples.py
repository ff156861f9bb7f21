"""Samples: which sentence means which mask in which clip.

samples.json   samples: a list of {id, clip, query, text, mask, shown, shard, group}; `shard` counts the role's shards
               from 0, and a mask that is not `shown` is empty; rules: the records that met a rule of `data.defects`;
               quarantined: the videos without clips, with the reasons
"""

from __future__ import annotations

import json

from extractors.quarantine import quarantined
from pipeline.recipes.job import Job


def build(job: Job) -> None:
    """Pair every sentence with the labelled frames that show its instance; the others are counted, by rule."""
    records = job.members["records"]
    unreadable = quarantined(job.inputs["Frames"], records["quarantine"]["limit"])
    frames: dict[str, list[tuple[str, int, list[int]]]] = {}
    for shard, folder in enumerate(job.inputs["Masks"]):
        for clip, truth in json.loads((folder / "truth.json").read_bytes())["clips"].items():
            instances = [int(instance) for instance in truth["instances"]]
            frames.setdefault(clip.rpartition("/")[0], []).append((clip, shard, instances))
    samples, absent = [], []
    for query in records["queries"]:
        if query["video"] in unreadable:
            continue
        for clip, shard, instances in frames.get(query["video"], []):
            name = f"{query['id']}@{clip.rpartition('/')[2]}"
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
    document = {"samples": samples, "rules": {"absent_instance": absent}, "quarantined": unreadable}
    (job.out / "samples.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


class NoSamples(ValueError):
    """A set without a single (sentence, frame) pair."""
