"""TextFeatures: the word vectors of each sentence.

text.h5    words (L, d) float32 a row, zero after the last word; ids are the queries'
text.json  the words without a vector, the sentences that were cut
"""

from __future__ import annotations

import json

import numpy as np

from extractors.shards import ShardWriter
from extractors.text import word_vectors
from pipeline.recipes.job import Job


def build(job: Job) -> None:
    """Look up all words of all sentences in one pass over the vectors."""
    section, queries = dict(job.sections["text"]), job.members["records"]["queries"]
    if "text.vectors" in job.members["files"]:
        section["vectors"] = job.members["files"]["text.vectors"]["path"]
    found = word_vectors([query["text"] for query in queries], **section)
    shape = (section["words"], section["dim"])
    with ShardWriter(job.out / "text.h5", len(queries), {"words": (shape, np.float32)}, {}) as writer:
        for row, (query, vectors) in enumerate(zip(queries, found.values, strict=True)):
            writer.write(row, query["id"], words=vectors)
    truncated = [queries[place]["id"] for place in found.truncated]
    document = {"missing": list(found.missing), "truncated": truncated}
    (job.out / "text.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
