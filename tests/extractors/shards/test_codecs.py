"""Chunks: the codec that is smallest, and what HDF5 itself would read."""

from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from extractors.shards.codecs import Chunk, Codec, DamagedChunk, compressed_bytes, decompress, smallest_codec

RAMP = np.linspace(1, 2, 4096, dtype=np.float32)  # high bytes alike, low bytes not: a shuffle pays
WORDS = np.random.default_rng(0).choice(np.random.default_rng(1).standard_normal((9, 16)), 500).astype(np.float16)


def unpacked(packed: bytes, codec: Codec, like: np.ndarray) -> np.ndarray:
    """What a single chunk holds."""
    out = np.full_like(like, 7)
    decompress([Chunk("shard a.h5, row 0: x", packed, codec, out)])
    return out


def stored(folder: Path, value: np.ndarray, shuffle: bool) -> bytes:
    """A chunk as HDF5's own filters write it."""
    with h5py.File(folder / "chunk.h5", "w") as file:
        data = file.create_dataset("x", data=value, chunks=value.shape, shuffle=shuffle, **hdf5plugin.Zstd(clevel=3))
        return data.id.read_direct_chunk((0,) * value.ndim)[1]


def test_a_shuffled_chunk_holds_the_low_bytes_and_then_the_high_ones() -> None:
    packed = zstandard.compress(bytes([0x02, 0x04, 0x01, 0x03]))
    assert unpacked(packed, "shuffle+zstd", np.zeros(2, "<u2")).tolist() == [0x0102, 0x0304]
    assert unpacked(packed, "zstd", np.zeros(2, "<u2")).tolist() == [0x0402, 0x0301]
    assert unpacked(bytes([2, 4, 1, 3]), "none", np.zeros(2, "<u2")).tolist() == [0x0402, 0x0301]


@settings(max_examples=25, deadline=None)
@given(
    value=st.sampled_from(["uint8", "<f2", "<f4", "<f8"]).flatmap(
        lambda dtype: arrays(dtype, st.tuples(st.integers(1, 4), st.integers(1, 300)), fill=st.just(0))
    ),
    shuffle=st.booleans(),
)
def test_chunks_hold_what_hdf5_wrote(
    tmp_path_factory: pytest.TempPathFactory, value: np.ndarray, shuffle: bool
) -> None:
    packed = stored(tmp_path_factory.mktemp("chunk"), value, shuffle)
    assert unpacked(packed, "shuffle+zstd" if shuffle else "zstd", value).tobytes() == value.tobytes()


def test_many_chunks_each_fill_their_own_array() -> None:
    expected = np.arange(64 * 500).reshape(64, 500)
    found = np.zeros_like(expected)
    decompress(
        Chunk("", zstandard.compress(row.tobytes()), "zstd", out) for row, out in zip(expected, found, strict=True)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("value", "codec"), [(RAMP, "shuffle+zstd"), (WORDS, "zstd")], ids=["ramp", "words"])
def test_the_smaller_codec_is_the_one_that_is_smaller_in_hdf5(tmp_path: Path, value: np.ndarray, codec: Codec) -> None:
    sizes = {"zstd": len(stored(tmp_path, value, False)), "shuffle+zstd": len(stored(tmp_path, value, True))}
    assert min(sizes, key=sizes.__getitem__) == smallest_codec([value]) == codec
    assert compressed_bytes(value, "none") == value.nbytes
    for name in ("zstd", "shuffle+zstd"):
        assert compressed_bytes(value, name) == pytest.approx(sizes[name], rel=0.02)  # two builds of Zstandard


def test_all_rows_count_and_bytes_alone_or_ties_are_not_shuffled() -> None:
    assert compressed_bytes(RAMP, "zstd") > 4 * compressed_bytes(WORDS, "zstd")
    assert smallest_codec([WORDS, RAMP.astype(np.float16)] + [WORDS] * 40) == "zstd"
    assert smallest_codec([WORDS, RAMP, WORDS]) == "shuffle+zstd"
    assert smallest_codec([RAMP.view(np.uint8)]) == "zstd"
    assert smallest_codec([np.zeros(4096, np.float32)]) == "zstd"
    assert smallest_codec([]) == "zstd"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda packed: b"", "bytes instead of 16384"),
        (lambda packed: packed[:-100], "bytes instead of 16384"),
        (lambda packed: bytes(50) + packed[50:], "does not read"),
        (lambda packed: zstandard.compress(bytes(16383)), "16383 bytes instead of 16384"),
        (lambda packed: zstandard.compress(bytes(16385)), r"16384\+ bytes instead of 16384"),
    ],
    ids=["nothing", "cut", "overwritten", "short", "long"],
)
@pytest.mark.parametrize("codec", ["zstd", "shuffle+zstd"])
def test_damage_is_an_error_that_says_where(codec: Codec, damage, says: str) -> None:
    packed = damage(zstandard.compress(RAMP.tobytes(), 3))
    with pytest.raises(DamagedChunk, match=f"^shard a.h5, row 0: x .*{says}"):
        unpacked(packed, codec, RAMP)


def test_an_uncompressed_chunk_of_another_size_is_damaged() -> None:
    with pytest.raises(DamagedChunk, match="3 bytes instead of 4"):
        unpacked(b"abc", "none", np.zeros(4, np.uint8))
