"""The section [text]: word vectors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.sections.section import Positive, Section, Seed


class WordDimension(Section):
    """The length of word vectors, for stages that read no other key of [text]."""

    dim: Positive = Field(description="length of a word vector")


class TextSection(WordDimension):
    """The settings of word vectors and sentences."""

    vectors: str = Field(min_length=1, description="'hash', a word2vec .bin, a GloVe .txt, or a transformers folder")
    layer: Literal["input", "last"] = Field(description="of a transformers model: input embeddings, last hidden state")
    words: Positive = Field(description="word positions of a sentence")
    oov: Literal["zero", "skip", "random"] = Field(description="a word without a vector: zeros, left out, or seeded")
    mirrored: bool = Field(description="also the sentences with left and right swapped, for training.flip")
    seed: Seed
