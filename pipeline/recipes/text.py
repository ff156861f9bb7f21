"""TextFeatures: the word vectors of each sentence.

text.h5    words (L, d) float32 a row, zero after the last word, and, if asked for, mirrored (L, d): those of the
           sentence with left and right swapped; ids are the queries'
text.json  missing: the words without a vector, and how often each is met; words: how many there are in all; truncated:
           the queries whose sentences were cut
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from extractors.mirroring import mirrored
from extractors.shards import ShardWriter
from extractors.text import WordVectors, word_vectors
from pipeline.recipes.job import Job


def build(job: Job) -> None:
    """Look up all words of all sentences in one pass over the vectors, or by the index that an earlier pass left."""
    section, queries = job.sections["text"], job.members["records"]["queries"]
    texts = [query["text"] for query in queries]
    found = vectors(job, texts)
    arrays = {"words": found.values}
    if section["mirrored"]:
        arrays["mirrored"] = vectors(job, [mirrored(text) for text in texts]).values
    shape = (section["words"], section["dim"])
    with ShardWriter(job.out / "text.h5", len(queries), dict.fromkeys(arrays, (shape, np.float32)), {}) as writer:
        for row, query in enumerate(queries):
            writer.write(row, query["id"], **{name: values[row] for name, values in arrays.items()})
    document = {
        "missing": dict(sorted(found.occurrences.items())),
        "words": found.total_words,
        "truncated": [queries[place]["id"] for place in found.truncated],
    }
    (job.out / "text.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


def vectors(job: Job, texts: list[str]) -> WordVectors:
    """The word vectors of sentences, as [text] says."""
    section = {name: value for name, value in job.sections["text"].items() if name != "mirrored"}
    file = job.members["files"].get("text.vectors")
    if file is None:
        return word_vectors(texts, **section)
    index = job.cache / f"{file['sha256']}.index" if Path(file["path"]).is_file() else None
    return word_vectors(texts, **section | {"vectors": file["path"]}, index=index)
