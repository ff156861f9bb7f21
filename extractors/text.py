"""Sentences as rows of word vectors."""

import gzip
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

Oov = Literal["zero", "skip", "random"]

HASH = "hash"
_RANDOM_BOUND = 0.25  # uniform in [-0.25, 0.25] has about word2vec's variance (Kim, EMNLP 2014)
_BLOCK_BYTES = 1 << 20
_WORD = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W_]+)*")

Vector = Float32[np.ndarray, "dim"]


@dataclass(frozen=True)
class WordVectors:
    """Left-aligned word vectors, zero rows after the last word.

    `missing` are the words without a vector, sorted; `truncated` the positions of the sentences that were cut."""

    values: Float32[np.ndarray, "n words dim"]
    missing: tuple[str, ...]
    truncated: tuple[int, ...]


def tokens(sentence: str) -> tuple[str, ...]:
    """The words of a sentence in lower case: runs of letters and digits, with the apostrophes inside them (`man's`)."""
    return tuple(_WORD.findall(sentence.lower()))


def word_vectors(sentences: Sequence[str], vectors: str, dim: int, words: int, seed: int, oov: Oov) -> WordVectors:
    """The vectors of the first `words` words of each sentence.

    `vectors` is "hash", standard normal values seeded by the SHA-256 of seed and word, or a file of vectors: word2vec
    (.bin) or text with one word a line (GloVe .txt, word2vec .vec), also behind .gz; only its lower-case entries match.
    A word without a vector gets a row of zeros ("zero"), no row ("skip"), or uniform values in [-0.25, 0.25] seeded by
    it ("random"). Raises UnknownVectors, MalformedVectors, WrongDimension."""
    cut = [tokens(sentence) for sentence in sentences]
    truncated = tuple(place for place, found in enumerate(cut) if len(found) > words)
    cut = [found[:words] for found in cut]
    wanted = {word for found in cut for word in found}
    known = {word: hashed(word, dim, seed) for word in wanted} if vectors == HASH else _stored(vectors, wanted, dim)
    missing = tuple(sorted(wanted - known.keys()))
    if oov == "random":
        known = {**known, **{word: _uniform(word, dim, seed) for word in missing}}
    values = np.zeros((len(sentences), words, dim), np.float32)
    for place, found in enumerate(cut):
        kept = found if oov != "skip" else [word for word in found if word in known]
        for position, word in enumerate(kept):
            values[place, position] = known.get(word, 0.0)
    return WordVectors(values, missing, truncated)


def hashed(word: str, dim: int, seed: int) -> Vector:
    """Standard normal values that are a function of word and seed alone."""
    return _generator(word, seed).standard_normal(dim).astype(np.float32)


def _uniform(word: str, dim: int, seed: int) -> Vector:
    return _generator(word, seed).uniform(-_RANDOM_BOUND, _RANDOM_BOUND, dim).astype(np.float32)


def _generator(word: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{word}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def _stored(vectors: str, wanted: Collection[str], dim: int) -> Mapping[str, Vector]:
    path = Path(vectors)
    name = path.name.removesuffix(".gz")
    readers = {".bin": _read_binary, ".txt": _read_text, ".vec": _read_text}
    if Path(name).suffix not in readers or not path.is_file():
        raise UnknownVectors(
            f"text.vectors = {vectors!r}: expected 'hash', or an existing file .bin (word2vec), .txt or .vec (text), "
            "plain or with .gz. Correct the path, or take 'hash'."
        )
    found: dict[str, Vector] = {}
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for word, vector in readers[Path(name).suffix](file, path, wanted, dim):
            found.setdefault(word, vector)
    return found


def _read_binary(file: BufferedIOBase, path: Path, wanted: Collection[str], dim: int) -> Iterator[tuple[str, Vector]]:
    header = file.readline(100).split()
    if len(header) != 2 or not all(number.isdigit() for number in header):
        raise MalformedVectors(f"{path}: no word2vec header (count, dimension). Is it the binary format?")
    count, found = int(header[0]), int(header[1])
    _check_dimension(path, found, dim)
    encoded, size, buffer, start = {word.encode() for word in wanted}, 4 * dim, b"", 0
    for entry in range(count):
        while (end := buffer.find(b" ", start)) < 0 or len(buffer) < end + 1 + size:
            block = file.read(_BLOCK_BYTES)
            if not block:
                raise MalformedVectors(f"{path}: ends after {entry} of {count} words. Fetch it again.")
            buffer, start = buffer[start:] + block, 0
        word = buffer[start:end].lstrip(b"\n")
        if word in encoded:
            yield word.decode(), np.frombuffer(buffer, "<f4", dim, end + 1).astype(np.float32)
        start = end + 1 + size


def _read_text(file: BufferedIOBase, path: Path, wanted: Collection[str], dim: int) -> Iterator[tuple[str, Vector]]:
    encoded = {word.encode() for word in wanted}
    for number, line in enumerate(file, 1):
        if number == 1 and len(header := line.split()) == 2 and all(cell.isdigit() for cell in header):
            _check_dimension(path, int(header[1]), dim)
            continue
        word, _, rest = line.partition(b" ")
        if number == 1 or word in encoded:
            cells = rest.split()
            _check_dimension(path, len(cells), dim)
            if word in encoded:
                try:
                    yield word.decode(), np.array([float(cell) for cell in cells], np.float32)
                except ValueError as error:
                    raise MalformedVectors(f"{path}, line {number}: {error}. Fetch it again.") from None


def _check_dimension(path: Path, found: int, dim: int) -> None:
    if found != dim:
        raise WrongDimension(f"{path}: vectors of {found} values, but text.dim is {dim}. Correct one of them.")


class UnknownVectors(ValueError):
    """Word vectors that are neither "hash" nor a file of a known kind."""


class MalformedVectors(ValueError):
    """A file of word vectors that is not of its format."""


class WrongDimension(ValueError):
    """Word vectors of another length than configured."""
