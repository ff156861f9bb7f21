"""Word vectors from files: word2vec's binary format, with an index of byte offsets for lookup, and text formats."""

import gzip
import hashlib
import logging
import os
import struct
import zlib
from collections.abc import Collection, Iterator
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from data.wording import counted

BINARY, TEXT = (".bin",), (".txt", ".vec")

_BLOCK_BYTES = 1 << 20
_LONGEST_WORD = 4096  # bytes; word2vec's own programs allow 100 (MAX_STRING) to 2000
_EDGE_BYTES = 1 << 16
_MAGIC = b"acga.word2vec.1\n"
_HEADER = struct.Struct("<16s32s32sQQQ")  # magic, digest of the rest, mark and bytes of the vectors, words, dim
_SEALED = struct.Struct("<32sQQQ")  # the part of the header that its digest covers
_ENTRY = np.dtype([("key", "<u8"), ("offset", "<u8")])

Vector = Float32[np.ndarray, "dim"]

log = logging.getLogger(__name__)


def file_vectors(path: Path, wanted: Collection[str], dim: int, index: Path | None) -> dict[str, Vector]:
    """Return the vectors of the wanted words that a file contains; of duplicate words the first one counts.

    The file is word2vec's binary format (.bin), or text with one word per line (GloVe .txt; word2vec and fastText
    .vec, with a header), optionally compressed (.gz). It is read once, in blocks, in constant memory. For an
    uncompressed .bin, `index` is the path of an index with the offsets of all words (16 bytes per word): the first call
    writes it, later calls use it to seek. An index that is damaged or belongs to another file is rewritten.
    Raises MalformedVectors, WrongDimension."""
    binary = Path(path.name.removesuffix(".gz")).suffix in BINARY
    try:
        if binary and index is not None and path.suffix != ".gz":
            return _indexed(path, wanted, dim, index)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _binary(file, path, wanted, dim) if binary else _text(file, path, wanted, dim)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise MalformedVectors(f"{path}: the compressed file is damaged: {error}. Fetch it again.") from None


def check_header(path: Path, dim: int) -> None:
    """Check the dimension that the beginning of a file of vectors states or shows.

    Raises MalformedVectors, WrongDimension."""
    binary = Path(path.name.removesuffix(".gz")).suffix in BINARY
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            if binary:
                _binary_header(file, path, dim)
                return
            first = file.readline(_EDGE_BYTES).rstrip(b" \t\r\n")
            header = first.split()
            stated = int(header[1]) if len(header) == 2 and all(cell.isdigit() for cell in header) else None
            if first:
                check_dimension(path, _first_dimension(first, dim) if stated is None else stated, dim)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise MalformedVectors(f"{path}: the compressed file is damaged: {error}. Fetch it again.") from None


def check_dimension(path: Path, found: int, dim: int) -> None:
    """Raise WrongDimension unless the vectors of a file or model have the configured length `dim`."""
    if found != dim:
        raise WrongDimension(
            f"{path}: vectors of {counted(found, 'value')}, but text.dim is {dim}. Correct one of them."
        )


def _binary(file: BufferedIOBase, path: Path, wanted: Collection[str], dim: int) -> dict[str, Vector]:
    encoded = {word.encode(): word for word in wanted}
    found: dict[str, Vector] = {}
    for word, _, values in _entries(file, path, dim):
        if word in encoded:
            found.setdefault(encoded[word], _vector(path, encoded[word], values))
    return found


def _entries(file: BufferedIOBase, path: Path, dim: int) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield each word of a word2vec file, its byte offset in the file, and the bytes of its vector."""
    count, size = _binary_header(file, path, dim), 4 * dim
    buffer, start, place = b"", 0, file.tell()  # place: offset of the buffer's first byte
    for entry in range(count):
        while (end := buffer.find(b" ", start, start + _LONGEST_WORD)) < 0 or len(buffer) < end + 1 + size:
            if end < 0 and len(buffer) - start >= _LONGEST_WORD:
                raise MalformedVectors(
                    f"{path}: word {entry + 1} of {count}, at byte {place + start}, does not end within "
                    f"{_LONGEST_WORD} bytes. Is the dimension {dim} its true one? Fetch it again."
                )
            block = file.read(_BLOCK_BYTES)
            if not block:
                raise MalformedVectors(f"{path}: ends after {entry} of {counted(count, 'word')}. Fetch it again.")
            place += start
            buffer, start = buffer[start:] + block, 0
        word = buffer[start:end].lstrip(b"\n")  # some writers end each vector with a line feed
        start = end + 1 + size
        yield word, place + end - len(word), buffer[end + 1 : start]
    if (buffer[start:] + file.read(_LONGEST_WORD)).strip(b"\n"):
        raise MalformedVectors(
            f"{path}: goes on at byte {place + start}, after the {counted(count, 'word')} of its header."
            " Fetch it again."
        )


def _binary_header(file: BufferedIOBase, path: Path, dim: int) -> int:
    """Read the header of a word2vec file and return its number of words."""
    header = file.readline(100).split()
    if len(header) != 2 or not all(number.isdigit() for number in header):
        raise MalformedVectors(
            f"{path}: no word2vec header (count, dimension) but {b' '.join(header)[:40]!r}. Is it the binary format?"
        )
    check_dimension(path, int(header[1]), dim)
    return int(header[0])


def _vector(path: Path, word: str, values: bytes) -> Vector:
    vector = np.frombuffer(values, "<f4").astype(np.float32)
    if not np.isfinite(vector).all():
        raise MalformedVectors(f"{path}, word {word!r}: values that are no finite numbers. Fetch it again.")
    return vector


def _indexed(path: Path, wanted: Collection[str], dim: int, index: Path) -> dict[str, Vector]:
    if index.is_file():
        try:
            return _sought(path, wanted, dim, index)
        except DamagedIndex as error:
            log.warning("%s; reading all of %s to write it again", error, path)
    return _passed(path, wanted, dim, index)


def _passed(path: Path, wanted: Collection[str], dim: int, index: Path) -> dict[str, Vector]:
    """Read all words and write the index, which gets its final name only when it is complete."""
    encoded = {word.encode(): word for word in wanted}
    found: dict[str, Vector] = {}
    count, pending, digest = 0, bytearray(), hashlib.sha256()
    index.parent.mkdir(parents=True, exist_ok=True)
    part = index.with_name(f"{index.name}.{os.getpid()}.part")
    try:
        with path.open("rb") as file, part.open("wb") as out:
            out.write(bytes(_HEADER.size))
            for word, offset, values in _entries(file, path, dim):
                if word in encoded:
                    found.setdefault(encoded[word], _vector(path, encoded[word], values))
                pending += _key(word) + offset.to_bytes(8, "little")
                count += 1
                if len(pending) == _BLOCK_BYTES:
                    digest.update(pending)
                    out.write(pending)
                    pending.clear()
            digest.update(pending)
            out.write(pending)
            sealed = _SEALED.pack(*_mark(path), count, dim)
            digest.update(sealed)
            out.seek(0)
            out.write(_MAGIC + digest.digest() + sealed)
            out.flush()
            os.fsync(out.fileno())
        part.replace(index)
    finally:
        part.unlink(missing_ok=True)
    return found


def _sought(path: Path, wanted: Collection[str], dim: int, index: Path) -> dict[str, Vector]:
    """Look up the wanted words in the verified index and read their vectors at these offsets."""
    words = {int.from_bytes(_key(word.encode()), "little"): word for word in wanted}
    found: dict[str, Vector] = {}
    places = _places(path, index, np.array(list(words), np.uint64), dim)
    with path.open("rb") as file:
        for key, offset in places:
            word = words[key]
            if word not in found:
                head = word.encode() + b" "
                file.seek(offset)
                entry = file.read(len(head) + 4 * dim)
                if not entry.startswith(head) or len(entry) < len(head) + 4 * dim:
                    raise DamagedIndex(f"{index}: {word!r} is not at byte {offset} of the vectors")
                found[word] = _vector(path, word, entry[len(head) :])
    return found


def _places(path: Path, index: Path, keys: np.ndarray, dim: int) -> list[tuple[int, int]]:
    """Return the (key, offset) pairs of the given keys, in the order of the vectors. Raises DamagedIndex."""
    with index.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise DamagedIndex(f"{index}: no index of word vectors")
        _, stated, mark, size, count, found = _HEADER.unpack(header)
        if (mark, size) != _mark(path):
            raise DamagedIndex(f"{index}: the index of other vectors")
        digest, read = hashlib.sha256(), 0
        places: list[tuple[int, int]] = []
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            read += len(block)
            if len(block) % _ENTRY.itemsize == 0:
                entries = np.frombuffer(block, _ENTRY)
                places += entries[np.isin(entries["key"], keys)].tolist()
        digest.update(header[-_SEALED.size :])
        if read != count * _ENTRY.itemsize or digest.digest() != stated:
            raise DamagedIndex(f"{index}: not as it was written")
    check_dimension(path, found, dim)
    return places


def _key(word: bytes) -> bytes:
    return hashlib.blake2b(word, digest_size=8).digest()


def _mark(path: Path) -> tuple[bytes, int]:
    """Return the SHA-256 of the file's first and last 64 KiB, and its size, to distinguish files of vectors."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_EDGE_BYTES))
        file.seek(max(0, size - _EDGE_BYTES))
        digest.update(file.read(_EDGE_BYTES))
    return digest.digest(), size


def _text(file: BufferedIOBase, path: Path, wanted: Collection[str], dim: int) -> dict[str, Vector]:
    encoded = {word.encode(): word for word in wanted}
    found: dict[str, Vector] = {}
    stated, count = None, 0
    for number, ended in enumerate(file, 1):
        line = ended.rstrip(b" \t\r\n")
        if number == 1 and len(header := line.split()) == 2 and all(cell.isdigit() for cell in header):
            stated = int(header[0])
            check_dimension(path, int(header[1]), dim)
        elif line:
            count += 1
            if count == 1:
                check_dimension(path, _first_dimension(line, dim), dim)
            if line.count(b" ") < dim:
                raise MalformedVectors(
                    f"{path}, line {number}: {counted(line.count(b' '), 'value')} instead of {dim}. Fetch it again."
                )
            word = encoded.get(line.partition(b" ")[0])
            if word is not None and (vector := _line_vector(path, number, line, dim)) is not None:
                found.setdefault(word, vector)
    if stated not in (None, count):
        raise MalformedVectors(f"{path}: {counted(count, 'word')}, but its header says {stated}. Fetch it again.")
    return found


def _first_dimension(line: bytes, dim: int) -> int:
    """Return the number of values in a line; the word may contain spaces (`. .`), as some words of GloVe 840B do."""
    cells = line.split()
    if len(cells) - 1 == dim:
        return dim
    names = [place for place, cell in enumerate(cells) if place == 0 or not _is_number(cell)]
    return len(cells) - 1 - names[-1]


def _line_vector(path: Path, number: int, line: bytes, dim: int) -> Vector | None:
    """Return the values of a line of text; None if its word contains a space."""
    cells = line.split()[1:]
    if len(cells) > dim and not _is_number(cells[-dim - 1]):
        return None
    if len(cells) != dim:
        raise MalformedVectors(
            f"{path}, line {number}: {counted(len(cells), 'value')} instead of {dim}. Fetch it again."
        )
    try:
        values = np.array([float(cell) for cell in cells])
    except ValueError as error:
        raise MalformedVectors(f"{path}, line {number}: {error}. Fetch it again.") from None
    if not (np.abs(values) <= np.finfo(np.float32).max).all():
        raise MalformedVectors(f"{path}, line {number}: values that are no finite float32. Fetch it again.")
    return values.astype(np.float32)


def _is_number(cell: bytes) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


class MalformedVectors(ValueError):
    """Raised if a file of word vectors does not follow its format."""


class WrongDimension(ValueError):
    """Raised if word vectors do not have the configured length."""


class DamagedIndex(ValueError):
    """Raised if an index is damaged or belongs to another file; always handled inside this module."""
