"""Masks out of MATLAB v5 files; files that are damaged are in test_damaged_annotations."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.readers.annotations import MalformedAnnotations, MissingFile
from data.readers.mat_masks import read_masks, read_shape


def element(order: str, kind: int, content: bytes) -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def by_hand(order: str, compressed: bool) -> bytes:
    """A file of 2 x 3 x 2 bytes 0, 1, 0, 0, 1, 1 and their opposites, written down by the format's document."""
    parts = element(order, 6, struct.pack(f"{order}II", 9, 0))  # array flags: class uint8
    parts += element(order, 5, struct.pack(f"{order}iii", 2, 3, 2))  # dimensions
    parts += element(order, 1, b"part_mask")
    parts += element(order, 2, bytes([0, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0]))  # columns first
    variable = element(order, 14, parts)
    if compressed:
        packed = zlib.compress(variable)
        variable = struct.pack(f"{order}II", 15, len(packed)) + packed
    return b"by hand".ljust(124) + struct.pack(f"{order}HH", 0x0100, 0x4D49) + variable


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_written_by_hand_has_its_masks(tmp_path: Path, order: str, compressed: bool) -> None:
    path = tmp_path / "puppet_mask.mat"
    path.write_bytes(by_hand(order, compressed))
    assert read_shape(path) == (2, 3, 2)
    first = np.array([[0, 0, 1], [1, 0, 1]])
    np.testing.assert_array_equal(read_masks(path), np.stack([first, 1 - first], axis=2))
    np.testing.assert_array_equal(scipy.io.loadmat(path)["part_mask"], read_masks(path))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(2, 5)),
    dtype=st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "?"]),
    compressed=st.booleans(),
    before=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_scipy_writes_is_read_as_scipy_reads_it(
    tmp_path: Path, shape: tuple[int, int, int], dtype: str, compressed: bool, before: bool, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)
    others = {"a": np.arange(5000.0), "text": "words", "cell": np.array([1, "x"], object)} if before else {}
    path = tmp_path / "puppet_mask.mat"
    scipy.io.savemat(path, others | {"part_mask": values}, do_compression=compressed)
    oracle = scipy.io.loadmat(path)["part_mask"]
    assert read_shape(path) == oracle.shape == shape
    found = read_masks(path)
    assert found.dtype == oracle.dtype
    np.testing.assert_array_equal(found, oracle)


def test_the_real_masks_are_those_that_scipy_reads(shared: Path) -> None:
    paths = sorted((shared / "real" / "jhmdb" / "puppet_mask").glob("*/*/puppet_mask.mat"))
    assert len(paths) == 42
    for path in paths:
        oracle = scipy.io.loadmat(path)["part_mask"]
        assert read_shape(path) == oracle.shape
        np.testing.assert_array_equal(read_masks(path), oracle)


def test_a_shape_that_claims_more_than_the_file_holds_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "video" / "puppet_mask.mat"
    path.parent.mkdir()
    claimed = by_hand("<", False).replace(struct.pack("<iii", 2, 3, 2), struct.pack("<iii", 2, 3, 2**29))
    path.write_bytes(claimed)
    with pytest.raises(MalformedAnnotations, match=r"has the shape \(2, 3, 536870912\)"):
        read_shape(path)
    path.write_bytes(by_hand("<", False).replace(struct.pack("<iii", 2, 3, 2), struct.pack("<iii", 2, 3, 9)))
    with pytest.raises(MalformedAnnotations, match=r"video video: .*12 bytes of values; expected 54"):
        read_shape(path)


def test_a_missing_file_is_named_with_its_video(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"video here: no file .*here/puppet_mask\.mat \(No such file"):
        read_masks(tmp_path / "here" / "puppet_mask.mat")
