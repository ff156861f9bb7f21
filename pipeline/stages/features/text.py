"""The stage TextFeatures, which looks up the word vectors of each sentence.

text.h5    one row per sentence: words (L, d) float32, zero after the last word; with text.mirrored also mirrored
           (L, d), the vectors of the sentence with left and right swapped; the row ids are those of the queries
text.json  missing: the words without a vector, with the number of occurrences of each; words: the total number of
           words; truncated: the queries whose sentences were truncated
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

import numpy as np

from extractors.shards.shard import ShardWriter
from extractors.text.mirroring import mirrored
from extractors.text.sentences import WordVectors, word_vectors
from pipeline.sections.features.text import TextSection
from pipeline.sections.section import Section
from pipeline.stages.support.job import Job


class Settings(Section):
    """The sections that this stage reads."""

    text: TextSection


class Sentence(TypedDict):
    """A sentence and its id."""

    id: str
    text: str


class Records(TypedDict):
    """The sentences of a role."""

    queries: list[Sentence]


def build(job: Job[Settings, Records]) -> None:
    """Look up all words of all sentences and write text.h5 and text.json.

    The lookup takes one pass over the vectors, or uses the index that an earlier pass wrote.
    """
    section, queries = job.settings.text, job.records["queries"]
    texts = [query["text"] for query in queries]
    found = vectors(job, texts)
    arrays = {"words": found.values}
    if section.mirrored:
        arrays["mirrored"] = vectors(job, [mirrored(text) for text in texts]).values
    shape = (section.words, section.dim)
    with ShardWriter(job.out / "text.h5", len(queries), dict.fromkeys(arrays, (shape, np.float32)), {}) as writer:
        for row, query in enumerate(queries):
            writer.write(row, query["id"], **{name: values[row] for name, values in arrays.items()})
    document = {
        "missing": dict(sorted(found.occurrences.items())),
        "words": found.total_words,
        "truncated": [queries[place]["id"] for place in found.truncated],
    }
    (job.out / "text.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


def vectors(job: Job[Settings, Records], texts: list[str]) -> WordVectors:
    """Return the word vectors of sentences according to the section [text]."""
    section, file = job.settings.text, job.files.get("text.vectors")
    index = job.cache / f"{file['sha256']}.index" if file and Path(file["path"]).is_file() else None
    return word_vectors(
        texts,
        file["path"] if file else section.vectors,
        section.dim,
        section.words,
        section.seed,
        section.oov,
        section.layer,
        index,
    )
