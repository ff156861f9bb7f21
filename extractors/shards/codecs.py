"""Compression and decompression of the chunks of HDF5 arrays."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
import zstandard
from einops import rearrange
from jaxtyping import UInt8

from data.wording import counted
from extractors.cores import usable_cores

LEVEL = 3  # of Zstandard; higher levels take several times longer and save a few percent

Codec = Literal["none", "zstd", "shuffle+zstd"]
Bytes = UInt8[np.ndarray, " n"]


def smallest_codec(rows: Iterable[np.ndarray]) -> Codec:
    """Return the codec that takes the fewest bytes for these rows in total; "zstd" if they are equal."""
    plain = shuffled = 0
    for row in rows:
        if row.itemsize == 1:  # single bytes cannot be shuffled
            return "zstd"
        plain += compressed_bytes(row, "zstd")
        shuffled += compressed_bytes(row, "shuffle+zstd")
    return "shuffle+zstd" if shuffled < plain else "zstd"


def compressed_bytes(row: np.ndarray, codec: Codec) -> int:
    """Return the number of bytes that a row takes on disk as one chunk."""
    if codec == "none":
        return row.nbytes
    data = np.ascontiguousarray(row).reshape(-1).view(np.uint8)
    if codec == "shuffle+zstd":
        data = rearrange(data, "(n k) -> k n", k=row.itemsize)
    return len(zstandard.ZstdCompressor(level=LEVEL).compress(data.tobytes()))


class Chunk(NamedTuple):
    """A chunk as stored: its description for messages, bytes and codec, and the contiguous array to fill."""

    where: str
    packed: bytes
    codec: Codec
    out: np.ndarray


def decompress(chunks: Iterable[Chunk]) -> None:
    """Decompress each chunk into its array in worker threads, while the calling thread reads further chunks.

    Raises DamagedChunk. As in HDF5, damage that keeps the number of bytes is not detected; row digests detect it."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        for _ in pool.map(_fill, chunks):
            pass


def _fill(chunk: Chunk) -> None:
    target = chunk.out.reshape(-1).view(np.uint8)
    if chunk.codec == "shuffle+zstd":
        shuffled = np.empty_like(target)
        _decompress(chunk, shuffled)
        values = rearrange(target, "(n k) -> k n", k=chunk.out.itemsize)
        planes = rearrange(shuffled, "(k n) -> k n", k=chunk.out.itemsize)
        for place, plane in enumerate(planes):  # one by one, which in numpy is 10 times faster than together
            values[place] = plane
    elif chunk.codec == "zstd":
        _decompress(chunk, target)
    elif len(chunk.packed) == target.size:
        target[:] = np.frombuffer(chunk.packed, np.uint8)
    else:
        raise DamagedChunk(
            f"{chunk.where} does not read ({counted(len(chunk.packed), 'byte')} instead of {target.size})"
        )


def _decompress(chunk: Chunk, target: Bytes) -> None:
    """Decompress directly into `target`; copying the bytes from `decompress` takes a sixth longer."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(chunk.packed) as stream:
            found = stream.readinto(target.data)
            more = bool(stream.read(1))
    except zstandard.ZstdError as error:
        raise DamagedChunk(f"{chunk.where} does not read ({error})") from None
    if found != target.size or more:
        raise DamagedChunk(f"{chunk.where} does not read ({found}{'+' * more} bytes instead of {target.size})")


class DamagedChunk(ValueError):
    """Raised if the bytes of a chunk cannot be decompressed to the expected size."""
