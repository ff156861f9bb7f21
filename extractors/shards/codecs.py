"""Chunks of an HDF5 array as they lie on disk: what compresses them best, and what they hold."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
import zstandard
from einops import rearrange
from jaxtyping import UInt8

LEVEL = 3  # of Zstandard: higher ones take several times longer for a few percent

Codec = Literal["none", "zstd", "shuffle+zstd"]
Bytes = UInt8[np.ndarray, " n"]


def smallest_codec(rows: Iterable[np.ndarray]) -> Codec:
    """The codec that takes the fewest bytes for these rows together, by measurement; "zstd" where they are equal."""
    plain = shuffled = 0
    for row in rows:
        if row.itemsize == 1:  # there is nothing to shuffle
            return "zstd"
        plain += compressed_bytes(row, "zstd")
        shuffled += compressed_bytes(row, "shuffle+zstd")
    return "shuffle+zstd" if shuffled < plain else "zstd"


def compressed_bytes(row: np.ndarray, codec: Codec) -> int:
    """Bytes that a row takes on disk as one chunk."""
    if codec == "none":
        return row.nbytes
    data = np.ascontiguousarray(row).reshape(-1).view(np.uint8)
    if codec == "shuffle+zstd":
        data = rearrange(data, "(n k) -> k n", k=row.itemsize)
    return len(zstandard.ZstdCompressor(level=LEVEL).compress(data.tobytes()))


class Chunk(NamedTuple):
    """A chunk as it lies on disk, where that is for messages, and the contiguous array that it is to fill."""

    where: str
    packed: bytes
    codec: Codec
    out: np.ndarray


def decompress(chunks: Iterable[Chunk]) -> None:
    """Fills each chunk's array, in threads while this one draws the next chunk. Raises DamagedChunk.

    Damage that leaves a frame of the right size goes unnoticed, as it does in HDF5: a row's digest tells."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(_fill, chunks):
            pass


def _fill(chunk: Chunk) -> None:
    target = chunk.out.reshape(-1).view(np.uint8)
    if chunk.codec == "shuffle+zstd":
        shuffled = np.empty_like(target)
        _decompress(chunk, shuffled)
        values = rearrange(target, "(n k) -> k n", k=chunk.out.itemsize)
        planes = rearrange(shuffled, "(k n) -> k n", k=chunk.out.itemsize)
        for place, plane in enumerate(planes):  # one by one: numpy copies them together 10 times slower
            values[place] = plane
    elif chunk.codec == "zstd":
        _decompress(chunk, target)
    elif len(chunk.packed) == target.size:
        target[:] = np.frombuffer(chunk.packed, np.uint8)
    else:
        raise DamagedChunk(f"{chunk.where} does not read ({len(chunk.packed)} bytes instead of {target.size})")


def _decompress(chunk: Chunk, target: Bytes) -> None:
    """Straight into `target`: bytes that come from `decompress` and are copied take a sixth longer."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(chunk.packed) as stream:
            found = stream.readinto(target.data)
            more = bool(stream.read(1))
    except zstandard.ZstdError as error:
        raise DamagedChunk(f"{chunk.where} does not read ({error})") from None
    if found != target.size or more:
        raise DamagedChunk(f"{chunk.where} does not read ({found}{'+' * more} bytes instead of {target.size})")


class DamagedChunk(ValueError):
    """Bytes that are not what was compressed."""
