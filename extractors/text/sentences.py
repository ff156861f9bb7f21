"""Conversion of sentences to rows of word vectors."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from extractors.text.transformer import Layer, check_folder, encoder_vectors
from extractors.text.word2vec import BINARY, TEXT, check_header, file_vectors

Oov = Literal["zero", "skip", "random"]

HASH = "hash"
_RANDOM_BOUND = 0.25  # uniform in [-0.25, 0.25] has about word2vec's variance (Kim, EMNLP 2014)
_WORD = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W_]+)*")

Vector = Float32[np.ndarray, "dim"]


@dataclass(frozen=True)
class WordVectors:
    """Left-aligned word vectors, padded with zero rows after the last word.

    `occurrences` counts the positions of each word that has no vector, in alphabetical order; `total_words` counts the
    word positions of all truncated sentences; `truncated` holds the positions of the sentences with too many words."""

    values: Float32[np.ndarray, "n words dim"]
    occurrences: Mapping[str, int]
    total_words: int
    truncated: tuple[int, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The words without a vector, sorted."""
        return tuple(sorted(self.occurrences))


def tokens(sentence: str) -> tuple[str, ...]:
    """Return the words of a sentence in lower case: runs of letters and digits, with inner apostrophes (`man's`)."""
    return tuple(_WORD.findall(sentence.lower()))


def word_vectors(
    sentences: Sequence[str],
    vectors: str,
    dim: int,
    words: int,
    seed: int,
    oov: Oov,
    layer: Layer | None = None,
    index: Path | None = None,
) -> WordVectors:
    """Return the vectors of the first `words` words of each sentence.

    `vectors` is one of: "hash", standard normal values seeded by the SHA-256 of seed and word; a file of vectors, in
    which only lower-case entries match, with its index at `index` (see `extractors.text.word2vec.file_vectors`); the
    folder of a transformers model, which reads the truncated sentence and requires `layer` (see
    `extractors.text.transformer.encoder_vectors`). `oov` selects what a word without a vector gets: a row of zeros
    ("zero"), no row ("skip"), or uniform values in [-0.25, 0.25] seeded by seed and word ("random").
    Raises UnknownVectors and the errors of these two functions."""
    cut = [tokens(sentence) for sentence in sentences]
    truncated = tuple(place for place, found in enumerate(cut) if len(found) > words)
    cut = [found[:words] for found in cut]
    values = np.zeros((len(sentences), words, dim), np.float32)
    occurrences: Counter[str] = Counter()
    for place, (found, rows) in enumerate(zip(cut, _rows(cut, vectors, dim, seed, layer, index), strict=True)):
        absent = [word for word, row in zip(found, rows, strict=True) if row is None]
        occurrences.update(absent)
        if oov == "skip":
            rows = [row for row in rows if row is not None]
        for position, row in enumerate(rows):
            if row is not None:
                values[place, position] = row
            elif oov == "random":
                values[place, position] = _uniform(found[position], dim, seed)
    return WordVectors(values, dict(sorted(occurrences.items())), sum(map(len, cut)), truncated)


def hashed(word: str, dim: int, seed: int) -> Vector:
    """Return standard normal values that depend only on the word and the seed."""
    return _generator(word, seed).standard_normal(dim).astype(np.float32)


def _uniform(word: str, dim: int, seed: int) -> Vector:
    return _generator(word, seed).uniform(-_RANDOM_BOUND, _RANDOM_BOUND, dim).astype(np.float32)


def _generator(word: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{word}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def check_vectors(vectors: str, dim: int, layer: Layer) -> None:
    """Check, without reading any vector, that `vectors` names what `word_vectors` can read, of dimension `dim`.

    Raises UnknownVectors and the errors of `check_header` and `check_folder`."""
    if vectors == HASH:
        return
    if Path(vectors).is_dir():
        check_folder(Path(vectors), dim, layer)
    else:
        check_header(_file(vectors), dim)


def _rows(
    cut: Sequence[Sequence[str]], vectors: str, dim: int, seed: int, layer: Layer | None, index: Path | None
) -> Iterable[Sequence[Vector | None]]:
    """Return the vector of each word of each sentence, or None for a word without a vector."""
    if Path(vectors).is_dir() and vectors != HASH:
        if layer is None:
            raise UnknownVectors(
                f"text.vectors = {vectors!r} is a folder, read as a transformers model: expected text.layer to be "
                "'input' or 'last', found none. Set it, or name a file of vectors."
            )
        return encoder_vectors(cut, Path(vectors), dim, layer)
    wanted = {word for found in cut for word in found}
    if vectors == HASH:
        known = {word: hashed(word, dim, seed) for word in wanted}
    else:
        known = file_vectors(_file(vectors), wanted, dim, index)
    return ([known.get(word) for word in found] for found in cut)


def _file(vectors: str) -> Path:
    path = Path(vectors)
    if Path(path.name.removesuffix(".gz")).suffix not in BINARY + TEXT or not path.is_file():
        raise UnknownVectors(
            f"text.vectors = {vectors!r}: expected 'hash', an existing file .bin (word2vec), .txt or .vec (text), "
            "plain or with .gz, or the folder of a transformers model. Correct the path, or take 'hash'."
        )
    return path


class UnknownVectors(ValueError):
    """Raised if `vectors` is not "hash", a file of a known format, or a model folder with a layer."""
