"""Shards: written whole or not at all, and read back as they were written."""

import hashlib
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from extractors.shards import shard as layout
from extractors.shards.shard import (
    CorruptShard,
    IncompleteShard,
    MixedShards,
    ShardReader,
    ShardWriter,
    WrongRow,
    content_hash,
    read_rows,
)

ROOT = Path(layout.__file__).parents[2]
ARRAYS = {"features": ((4, 8, 32), np.float16), "size": ((2,), np.int32), "score": ((), np.float64)}


def row(number: int) -> dict[str, np.ndarray]:
    """The arrays of a row, big and small."""
    features = np.random.default_rng(number).standard_normal((4, 8, 32)).astype(np.float16)
    return {"features": features, "size": np.array([number, 7], np.int32), "score": np.array(number / 4)}


def write(path: Path, order: tuple[int, ...] = (0, 1, 2), **attributes: str | int | float) -> Path:
    """A shard of three rows, written in `order`."""
    with ShardWriter(path, 3, ARRAYS, {"source": "test", **attributes}) as shard:
        for number in order:
            shard.write(number, f"-vidéo_/{number}", **row(number))
    return path


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    reader = ShardReader(write(tmp_path / "a.h5", (2, 0, 1), eps=0.001, tap=4))
    assert reader.ids == ("-vidéo_/0", "-vidéo_/1", "-vidéo_/2")
    assert reader.names == ("features", "score", "size")
    assert reader.attributes == {"eps": 0.001, "source": "test", "tap": 4}
    assert len(reader) == 3
    for number in range(3):
        for name, value in row(number).items():
            found = reader.read(name, number)
            np.testing.assert_array_equal(found, value)
            assert found.dtype == value.dtype
    np.testing.assert_array_equal(reader.array("size"), [[0, 7], [1, 7], [2, 7]])
    reader.verify()
    reader.close()
    assert list(tmp_path.iterdir()) == [tmp_path / "a.h5"]


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert sorted(file) == ["digests", "features", "ids", "score", "size", "valid"]
        assert file["features"].chunks == (1, 4, 8, 32)
        assert str(hdf5plugin.Zstd.filter_id) in file["features"]._filters
        assert file["size"].chunks is None
        assert file["valid"][...].tolist() == [1, 1, 1]
        assert file["digests"].shape == (3, 32)
        assert file.attrs["shard_format"] == layout.FORMAT


def test_files_are_byte_identical_whenever_and_in_whatever_order_rows_are_written(tmp_path: Path) -> None:
    first = write(tmp_path / "a.h5").read_bytes()
    time.sleep(1.1)  # times in HDF5 are in seconds
    assert write(tmp_path / "b.h5").read_bytes() == first
    assert content_hash(write(tmp_path / "c.h5", (2, 0, 1))) == content_hash(tmp_path / "a.h5")


def test_the_content_hash_does_not_depend_on_the_container(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file, h5py.File(tmp_path / "b.h5", "w", libver="latest") as other:
        other.attrs.update(file.attrs)
        for name in sorted(file, reverse=True):
            other.create_dataset(name, data=file[name][...], track_times=True)
    assert (tmp_path / "a.h5").read_bytes() != (tmp_path / "b.h5").read_bytes()
    assert content_hash(tmp_path / "a.h5") == content_hash(tmp_path / "b.h5")


def test_the_content_hash_sees_values_ids_names_dtypes_and_attributes(tmp_path: Path) -> None:
    def made(name: str = "x", dtype: str = "float32", value: float = 1, id: str = "a", attribute: float = 1) -> str:
        with ShardWriter(tmp_path / "a.h5", 1, {name: ((2,), dtype)}, {"k": attribute}) as shard:
            shard.write(0, id, **{name: np.full(2, value, dtype)})
        return content_hash(tmp_path / "a.h5")

    hashes = [
        made(),
        made(name="y"),
        made(dtype="float64"),
        made(value=-1),
        made(value=0),
        made(value=-0.0),
        made(id="b"),
        made(attribute=2),
        made(attribute=1.0),
    ]
    assert len(set(hashes)) == len(hashes)
    assert made() == hashes[0]


@settings(max_examples=20, deadline=None)
@given(
    value=arrays(np.float32, (2, 300), elements=st.floats(width=32)),
    ids=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12), min_size=2, max_size=2),
)
def test_any_values_and_ids_survive(
    tmp_path_factory: pytest.TempPathFactory, value: np.ndarray, ids: list[str]
) -> None:
    path = tmp_path_factory.mktemp("shard") / "a.h5"
    with ShardWriter(path, 2, {"x": ((300,), "float32")}, {}) as shard:
        for number in range(2):
            shard.write(number, ids[number], x=value[number])
    reader = ShardReader(path)
    assert list(reader.ids) == ids
    assert reader.array("x").tobytes() == value.tobytes()
    reader.close()


def test_an_unwritten_row_an_error_and_a_wrong_row_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with (
        pytest.raises(IncompleteShard, match="1 of 3 rows was not written, first 1"),
        ShardWriter(path, 3, ARRAYS, {}) as shard,
    ):
        shard.write(0, "a", **row(0))
        shard.write(2, "c", **row(2))
    with pytest.raises(ZeroDivisionError), ShardWriter(path, 1, ARRAYS, {}) as shard:
        shard.write(0, "a", **row(0))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "change", "says"),
    [
        (3, {}, "rows 0 to 2"),
        (0, {}, "each to be written once"),
        (1, {"size": np.zeros(3, np.int32)}, r"size is int32 \(3,\); declared is int32 \(2,\)"),
        (1, {"size": np.zeros(2, np.int64)}, r"size is int64 \(2,\)"),
        (1, {"more": np.zeros(2)}, "got the arrays"),
    ],
)
def test_a_row_that_does_not_fit_is_an_error(
    tmp_path: Path, number: int, change: dict[str, np.ndarray], says: str
) -> None:
    with pytest.raises(WrongRow, match=says), ShardWriter(tmp_path / "a.h5", 3, ARRAYS, {}) as shard:
        shard.write(0, "a", **row(0))
        shard.write(number, "b", **(row(1) | change))


def test_the_shards_own_names_are_reserved(tmp_path: Path) -> None:
    with pytest.raises(WrongRow, match="ids, shard_format"):
        ShardWriter(tmp_path / "a.h5", 1, {"ids": ((), "int32")}, {"shard_format": 2})


def test_a_writer_that_is_killed_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, numpy as np\n"
        "from pathlib import Path; from extractors.shards.shard import ShardWriter\n"
        "with ShardWriter(Path(sys.argv[1]), 2, {'x': ((999,), 'float32')}, {}) as shard:\n"
        "    shard.write(0, 'a', x=np.ones(999, np.float32)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "a.h5"
    killed = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert [left.name for left in tmp_path.iterdir()] == ["a.h5.part"]
    write(path)  # the debris is in nobody's way
    assert list(tmp_path.iterdir()) == [path]


def test_a_shard_that_was_cut_or_changed_is_corrupt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptShard, match="not a readable HDF5 file"):
        _ = ShardReader(path).ids
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file["size"][1, 1] = 8
    with pytest.raises(CorruptShard, match=r"row 1 \(-vidéo_/1\): not what was written"):
        ShardReader(path).verify()
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        offset = file["features"].id.get_chunk_info(1).byte_offset
    path.write_bytes(whole[:offset] + bytes(200) + whole[offset + 200 :])
    reader = ShardReader(path)
    np.testing.assert_array_equal(reader.read("features", 0), row(0)["features"])
    with pytest.raises(CorruptShard):
        reader.verify()
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    with pytest.raises(CorruptShard, match="no shard of format"):
        content_hash(tmp_path / "other.h5")


def test_unknown_rows_and_arrays_are_errors(tmp_path: Path) -> None:
    reader = ShardReader(write(tmp_path / "a.h5"))
    for outside in (-1, 3):
        with pytest.raises(IndexError, match="which has 3 rows"):
            reader.read("size", outside)
    with pytest.raises(CorruptShard, match="no array colour; it has features, score, size"):
        reader.read("colour", 0)


def test_a_row_digest_is_a_function_of_the_row_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    with ShardWriter(tmp_path / "b.h5", 1, ARRAYS, {}) as shard:
        shard.write(0, "-vidéo_/2", **row(2))
    digest = ShardReader(tmp_path / "b.h5").row_digest(0)
    assert digest == ShardReader(tmp_path / "a.h5").row_digest(2)
    assert len(bytes.fromhex(digest)) == hashlib.sha256().digest_size


def test_a_reader_pickles_as_its_path(tmp_path: Path) -> None:
    reader = ShardReader(write(tmp_path / "a.h5"))
    reader.read("size", 0)
    copy = pickle.loads(pickle.dumps(reader))
    assert len(pickle.dumps(reader)) < 500
    np.testing.assert_array_equal(copy.read("size", 2), [2, 7])


def test_a_reader_opened_before_a_fork_reads_right_on_both_sides(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from extractors.shards.shard import ShardReader\n"
        "reader = ShardReader(Path(sys.argv[1])); reader.read('features', 0)\n"
        "children = []\n"
        "for _ in range(3):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        for _ in range(40): reader.verify()\n"
        "        os._exit(0)\n"
        "    children.append(child)\n"
        "for _ in range(40): reader.verify()\n"
        "sys.exit(any(os.waitpid(child, 0)[1] for child in children))"
    )
    path = write(tmp_path / "a.h5")
    assert subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, timeout=60).returncode == 0


RAMP = np.linspace(1, 2, 4096, dtype=np.float32)  # a shuffle pays
WORDS = np.random.default_rng(0).choice(np.random.default_rng(1).standard_normal((9, 8)), 512).astype(np.float32)


def shard(path: Path, rows: list[np.ndarray]) -> ShardReader:
    """A shard of one array x."""
    with ShardWriter(path, len(rows), {"x": (rows[0].shape, rows[0].dtype)}, {}) as writer:
        for number, value in enumerate(rows):
            writer.write(number, str(number), x=value)
    return ShardReader(path)


@pytest.mark.parametrize(
    ("rows", "codec"),
    [
        ([RAMP] * 2, "shuffle+zstd"),
        ([WORDS.reshape(-1)] * 2, "zstd"),
        ([RAMP.view(np.uint8)] * 2, "zstd"),
        ([np.zeros(4096, np.float32), RAMP], "shuffle+zstd"),  # a blank first row decides nothing
        ([WORDS.reshape(-1)] * 4 + [RAMP] * 40, "zstd"),  # four rows decide
        ([RAMP[:200]], "none"),
    ],
    ids=["ramp", "words", "bytes", "blank", "later", "small"],
)
def test_the_codec_is_the_smaller_of_two_on_the_first_rows(tmp_path: Path, rows: list[np.ndarray], codec: str) -> None:
    reader = shard(tmp_path / "a.h5", rows)
    assert reader.codec("x") == codec
    np.testing.assert_array_equal(reader.array("x"), rows)
    again = shard(tmp_path / "b.h5", rows)
    assert again.path.read_bytes() == reader.path.read_bytes()


def test_the_content_hash_does_not_depend_on_the_codec(tmp_path: Path) -> None:
    first = shard(tmp_path / "a.h5", [RAMP, -RAMP])
    with h5py.File(tmp_path / "a.h5") as file, h5py.File(tmp_path / "b.h5", "w") as other:
        other.attrs.update(file.attrs)
        for name in file:
            filters = {"chunks": (1, 4096), **hdf5plugin.Zstd(clevel=3)} if name == "x" else {}
            other.create_dataset(name, data=file[name][...], **filters)
    assert (first.codec("x"), ShardReader(tmp_path / "b.h5").codec("x")) == ("shuffle+zstd", "zstd")
    assert content_hash(tmp_path / "a.h5") == content_hash(tmp_path / "b.h5")


def test_plain_h5py_reads_both_codecs(tmp_path: Path) -> None:
    script = "import sys, h5py, hdf5plugin, numpy; numpy.save(sys.argv[2], h5py.File(sys.argv[1])['x'][1])"
    for value in (RAMP, WORDS):
        path = shard(tmp_path / "a.h5", [value, -value]).path
        subprocess.run([sys.executable, "-W", "error", "-c", script, path, tmp_path / "x.npy"], check=True)
        np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), -value)


def test_a_row_may_hold_scalars_and_a_buffer_that_is_used_again(tmp_path: Path) -> None:
    buffer = np.zeros(1000, np.float32)
    with ShardWriter(tmp_path / "a.h5", 6, {"x": ((1000,), "float32"), "scale": ((), "float32")}, {}) as writer:
        for number in range(6):
            buffer[:] = number
            writer.write(number, str(number), x=buffer, scale=np.float32(2.0**-number))
    reader = ShardReader(tmp_path / "a.h5")
    assert reader.array("scale").tolist() == [1, 0.5, 0.25, 0.125, 0.0625, 0.03125]
    assert reader.array("x")[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert reader.read_many("scale", [3, 0]).tolist() == [0.125, 1]


@pytest.mark.parametrize("written", [0, 2, 5])
def test_a_shortened_shard_has_the_rows_that_were_written(tmp_path: Path, written: int) -> None:
    with ShardWriter(tmp_path / "a.h5", 9, ARRAYS, {}) as writer:
        for number in range(written):
            writer.write(number, str(number), **row(number))
        for impossible in (10, -1, *range(written)):
            with pytest.raises(WrongRow, match=f"cannot be cut from 9 to {impossible} rows"):
                writer.shorten(impossible)
        writer.shorten(written)
    reader = ShardReader(tmp_path / "a.h5")
    reader.verify()
    assert len(reader) == written
    assert reader.array("score").tolist() == [number / 4 for number in range(written)]
    assert reader.array("features").shape == (written, 4, 8, 32)


@pytest.mark.parametrize("value", [RAMP, WORDS.astype(np.float16), RAMP.view(np.uint8), RAMP[:2]])
def test_many_rows_at_once_are_the_rows_one_by_one(tmp_path: Path, value: np.ndarray) -> None:
    reader = shard(tmp_path / "a.h5", [value * factor for factor in range(7)])
    rows = [5, 0, 6, 5, 2]
    found = reader.read_many("x", rows)
    assert found.dtype == value.dtype
    assert found.tobytes() == np.stack([reader.read("x", number) for number in rows]).tobytes()
    assert reader.read_many("x", []).shape == (0, *value.shape)
    for outside in (-1, 7):
        with pytest.raises(IndexError, match="which has 7 rows"):
            reader.read_many("x", [0, outside])


def test_rows_of_several_shards_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    one, other = shard(tmp_path / "a.h5", [RAMP, -RAMP]), shard(tmp_path / "b.h5", [RAMP * 2, RAMP * 3])
    found = read_rows("x", [(other, 1), (one, 0), (other, 0), (one, 1)])
    np.testing.assert_array_equal(found, np.stack([RAMP * 3, RAMP, RAMP * 2, -RAMP]))
    short = shard(tmp_path / "c.h5", [RAMP[:9]])
    with pytest.raises(MixedShards, match=r"rows of x are float32 \(4096,\), float32 \(9,\); expected one shape"):
        read_rows("x", [(one, 0), (short, 0)])
    with pytest.raises(MixedShards, match="rows of x are nothing"):
        read_rows("x", [])


def test_a_row_for_which_hdf5_skipped_a_filter_is_read_all_the_same(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.h5", [RAMP, -RAMP]).path
    with h5py.File(path, "r+") as file:
        file["x"].id.write_direct_chunk((1, 0), (RAMP * 5).tobytes(), filter_mask=0b11)
    np.testing.assert_array_equal(ShardReader(path).read_many("x", [1, 0]), np.stack([RAMP * 5, RAMP]))


def test_many_rows_with_a_damaged_one_are_corrupt(tmp_path: Path) -> None:
    for value in (RAMP, WORDS):
        path = shard(tmp_path / "a.h5", [value, -value]).path
        with h5py.File(path) as file:
            chunk = file["x"].id.get_chunk_info(1)
        whole = path.read_bytes()
        path.write_bytes(whole[: chunk.byte_offset] + bytes(chunk.size) + whole[chunk.byte_offset + chunk.size :])
        reader = ShardReader(path)
        np.testing.assert_array_equal(reader.read_many("x", [0]), value[None])
        with pytest.raises(CorruptShard, match=r"a\.h5, row 1: x does not read .* Build it again"):
            reader.read_many("x", [0, 1, 0])


def test_filters_that_no_shard_has_are_corrupt(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.create_dataset("zipped", data=np.zeros((3, 9)), compression="gzip")
    with pytest.raises(CorruptShard, match=r"zipped has the HDF5 filters \(1,\)"):
        ShardReader(tmp_path / "a.h5").codec("zipped")
