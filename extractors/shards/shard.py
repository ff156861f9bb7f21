"""Shards: HDF5 files of rows, written once and read often. Only this module knows their HDF5 layout.

/<name>       (rows, *shape)   one chunk per row: Zstandard, after a byte shuffle if that makes the first rows smaller;
                               arrays of less than 1 KiB per row are contiguous and uncompressed
/ids          (rows,)          UTF-8
/valid        (rows,) uint8    1 for written rows; written after them, since HDF5 reads unwritten rows as zeros
/digests      (rows, 32) uint8 SHA-256 of the row's id and arrays
attributes    those of the caller, and `shard_format`
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from data.wording import counted, numbered
from extractors.shards.codecs import LEVEL, Chunk, Codec, DamagedChunk, decompress, smallest_codec
from extractors.shards.digests import little_endian, row_digest, update_digest, value_bytes
from extractors.shards.fsync import fsync

FORMAT = 1
_PLAIN_BELOW_BYTES = 1024
_MEASURED_ROWS = 4
_CODECS: dict[tuple[int, ...], Codec] = {
    (): "none",
    (hdf5plugin.Zstd.filter_id,): "zstd",
    (h5py.h5z.FILTER_SHUFFLE, hdf5plugin.Zstd.filter_id): "shuffle+zstd",
}
_RESERVED = ("ids", "valid", "digests")
_FORMAT_ATTRIBUTE = "shard_format"

Attribute = str | int | float


class ShardWriter:
    """A context manager that writes `rows` rows of the `arrays` (name -> shape of a row, dtype) to `path`.

    The file has the name `path` + ".part" until every row is written, flushed to disk and verified; after an error it
    is deleted. The codec of an array is the one that takes fewer bytes for the first four rows written. Files are
    byte-identical if the rows are written in the same order with the same versions of HDF5 and Zstandard. At exit it
    raises IncompleteShard if a row was not written, CorruptShard if a row does not read back correctly."""

    def __init__(
        self,
        path: Path,
        rows: int,
        arrays: Mapping[str, tuple[tuple[int, ...], Any]],
        attributes: Mapping[str, Attribute],
    ) -> None:
        reserved = sorted({*_RESERVED} & {*arrays} | {_FORMAT_ATTRIBUTE} & {*attributes})
        if reserved:
            raise WrongRow(f"shard {path}: the names {', '.join(reserved)} are the shard's own. Choose others.")
        self._path, self._part = path, path.with_name(path.name + ".part")
        self._arrays = {
            name: (tuple(shape), little_endian(np.dtype(dtype))) for name, (shape, dtype) in sorted(arrays.items())
        }
        self._small = {
            name: np.zeros((rows, *shape), dtype)
            for name, (shape, dtype) in self._arrays.items()
            if int(np.prod(shape)) * dtype.itemsize < _PLAIN_BELOW_BYTES
        }
        self._large = [name for name in self._arrays if name not in self._small]
        measured = any(self._arrays[name][1].itemsize > 1 for name in self._large)  # single bytes are never shuffled
        self._wait_for = _MEASURED_ROWS if measured else 1
        self._waiting: list[tuple[int, dict[str, np.ndarray]]] | None = []  # rows that wait until the codecs are chosen
        self._attributes = {**attributes, _FORMAT_ATTRIBUTE: FORMAT}
        self._ids: list[str] = [""] * rows
        self._written = [False] * rows
        self._digests = np.zeros((rows, 32), np.uint8)

    def __enter__(self) -> "ShardWriter":
        self._file = h5py.File(self._part, "w", libver="earliest", track_order=False)
        for name, value in sorted(self._attributes.items()):
            self._file.attrs[name] = value
        return self

    def write(self, row: int, id: str, **arrays: np.ndarray | np.generic) -> bytes:
        """Write one row, which must not be written yet, and return its digest.

        Raises WrongRow if the row, names, shapes or dtypes are not the declared ones."""
        where = f"shard {self._path}, row {row} ({id})"
        if not 0 <= row < len(self._ids) or self._written[row]:
            raise WrongRow(f"{where}: the shard has rows 0 to {len(self._ids) - 1}, each to be written once.")
        if sorted(arrays) != list(self._arrays):
            raise WrongRow(f"{where}: got the arrays {sorted(arrays)}; declared are {list(self._arrays)}.")
        for name, (shape, dtype) in self._arrays.items():
            if arrays[name].shape != shape or arrays[name].dtype != dtype:
                found = f"{arrays[name].dtype} {arrays[name].shape}"
                raise WrongRow(f"{where}: {name} is {found}; declared is {dtype} {shape}.")
        for name, values in self._small.items():
            values[row] = arrays[name]
        large = {name: arrays[name] for name in self._large}
        if self._waiting is None:
            self._store(row, large)
        else:
            self._waiting.append((row, {name: np.array(value) for name, value in large.items()}))
            if len(self._waiting) == self._wait_for:
                self._settle()
        digest = row_digest(id, arrays)
        self._digests[row] = np.frombuffer(digest, np.uint8)
        self._ids[row], self._written[row] = id, True
        return digest

    def shorten(self, rows: int) -> None:
        """Reduce the number of rows to `rows`. Raises WrongRow if that is larger, or if later rows are written."""
        if rows == len(self._ids):
            return
        if not 0 <= rows < len(self._ids) or any(self._written[rows:]):
            raise WrongRow(
                f"shard {self._path}: cannot be cut from {len(self._ids)} to {rows} rows: there are no more rows, or"
                " later ones are written."
            )
        self._small = {name: values[:rows] for name, values in self._small.items()}
        if self._waiting is None:
            for name in self._large:
                self._file[name].resize(rows, axis=0)
        self._ids, self._written, self._digests = self._ids[:rows], self._written[:rows], self._digests[:rows]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()
            self._part.unlink(missing_ok=True)

    def _settle(self) -> None:
        """Create the chunked arrays with the codecs that are best for the waiting rows, and store these rows."""
        waiting, self._waiting = self._waiting or [], None
        for name in self._large:
            shape, dtype = self._arrays[name]
            whole, layout = (len(self._ids), *shape), {}
            if waiting:
                shuffle = smallest_codec(arrays[name] for _, arrays in waiting) == "shuffle+zstd"
                layout = {"chunks": (1, *shape), "maxshape": whole, "shuffle": shuffle, **hdf5plugin.Zstd(clevel=LEVEL)}
            self._file.create_dataset(name, whole, dtype, track_times=False, **layout)
        for row, arrays in waiting:
            self._store(row, arrays)

    def _store(self, row: int, arrays: Mapping[str, np.ndarray | np.generic]) -> None:
        for name, value in arrays.items():
            self._file[name][row] = value

    def _finish(self) -> None:
        missing = [row for row, written in enumerate(self._written) if not written]
        if missing:
            raise IncompleteShard(
                f"shard {self._path}: {len(missing)} of {counted(len(self._ids), 'row')}"
                f" {numbered(len(missing), 'was', 'were')} not written, first {missing[0]}."
            )
        if self._waiting is not None:
            self._settle()
        for name, values in self._small.items():
            self._file.create_dataset(name, data=values, track_times=False)
        encoded = [id.encode() for id in self._ids]
        text = h5py.string_dtype("utf-8", max((len(id) for id in encoded), default=1) or 1)
        self._file.create_dataset("ids", data=np.array(encoded, dtype=text), track_times=False)
        self._file.create_dataset("valid", data=np.array(self._written, np.uint8), track_times=False)
        self._file.create_dataset("digests", data=self._digests, track_times=False)
        self._file.close()
        fsync(self._part)
        ShardReader(self._part).verify()
        self._part.replace(self._path)
        fsync(self._path.parent)


class ShardReader:
    """A reader of a shard. Each process opens the file when it first reads; pickling keeps only the path.

    Raises CorruptShard if the file is not a shard."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, h5py.File] | None = None
        self._ids: tuple[str, ...] | None = None
        self._datasets: dict[str, h5py.Dataset] = {}  # of the open file

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the rows, in order."""
        if self._ids is None:
            self._ids = tuple(id.decode() for id in self._dataset("ids")[...].tolist())
        return self._ids

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays, sorted."""
        return tuple(sorted(name for name in self._file() if name not in _RESERVED))

    @property
    def attributes(self) -> dict[str, Attribute]:
        """The attributes with which the shard was written."""
        return {name: _plain(value) for name, value in sorted(self._file().attrs.items()) if name != _FORMAT_ATTRIBUTE}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one row of an array."""
        return tuple(self._dataset(name).shape[1:])

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of an array."""
        dtype: np.dtype = self._dataset(name).dtype
        return dtype

    def codec(self, name: str) -> Codec:
        """Return the codec of the chunks of an array. Raises CorruptShard if shards do not use this compression."""
        properties = self._dataset(name).id.get_create_plist()
        filters = tuple(properties.get_filter(place)[0] for place in range(properties.get_nfilters()))
        if filters not in _CODECS:
            raise CorruptShard(f"shard {self.path}: {name} has the HDF5 filters {filters}. Build it again.")
        return _CODECS[filters]

    def read(self, name: str, row: int) -> np.ndarray:
        """Read one row of an array. Raises CorruptShard."""
        dataset = self._dataset(name)
        if not 0 <= row < len(dataset):
            raise IndexError(f"shard {self.path}: row {row} of {name}, which has {counted(len(dataset), 'row')}")
        try:
            return np.asarray(dataset[row])
        except OSError as error:
            raise self._unreadable(name, row, error) from None

    def read_many(self, name: str, rows: Sequence[int]) -> np.ndarray:
        """Read rows of an array, stacked in this order; faster than `read` for large rows. Raises CorruptShard."""
        dataset = self._dataset(name)
        return _gathered(name, [(self, row) for row in rows], np.empty((len(rows), *dataset.shape[1:]), dataset.dtype))

    def array(self, name: str) -> np.ndarray:
        """Read a whole array. Raises CorruptShard."""
        try:
            return np.asarray(self._dataset(name)[...])
        except OSError as error:
            raise CorruptShard(f"shard {self.path}: {name} does not read ({error}). Build it again.") from None

    def row_digest(self, row: int) -> str:
        """Return the stored SHA-256 of a row's id and arrays as hex digits."""
        return self.read("digests", row).tobytes().hex()

    def verify(self) -> None:
        """Read every row. Raises CorruptShard at the first row that is not valid or does not match its digest."""
        valid, digests, names = self.array("valid"), self.array("digests"), self.names
        if not len(valid) == len(digests) == len(self.ids) or any(len(self._dataset(n)) != len(valid) for n in names):
            raise CorruptShard(f"shard {self.path}: its arrays do not have the same number of rows. Build it again.")
        for row, id in enumerate(self.ids):
            found = row_digest(id, {name: np.asarray(self.read(name, row)) for name in names})
            if valid[row] != 1 or digests[row].tobytes() != found:
                raise CorruptShard(f"shard {self.path}, row {row} ({id}): not what was written. Build it again.")

    def close(self) -> None:
        """Close the file if this process has opened it; the next read opens it again."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None
        self._datasets = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def _dataset(self, name: str) -> h5py.Dataset:
        file = self._file()
        if name not in self._datasets:  # a lookup takes as long as reading a small row
            if name not in file:
                raise CorruptShard(f"shard {self.path}: no array {name}; it has {', '.join(self.names)}.")
            self._datasets[name] = file[name]
        return self._datasets[name]

    def _chunk(self, name: str, row: int, out: np.ndarray) -> Chunk | None:
        """Return the stored chunk of a row; None if a row is not one chunk or HDF5 skipped a filter for it."""
        dataset = self._dataset(name)
        if dataset.chunks != (1, *out.shape) or not 0 <= row < len(dataset):
            return None
        try:
            skipped, packed = dataset.id.read_direct_chunk((row, *(0 for _ in out.shape)))
        except OSError as error:
            raise self._unreadable(name, row, error) from None
        return None if skipped else Chunk(f"shard {self.path}, row {row}: {name}", packed, self.codec(name), out)

    def _unreadable(self, name: str, row: int, error: OSError) -> "CorruptShard":
        return CorruptShard(f"shard {self.path}, row {row}: {name} does not read ({error}). Build it again.")

    def _file(self) -> h5py.File:
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                file = h5py.File(self.path, "r", locking="best-effort")
            except FileNotFoundError:
                raise
            except OSError as error:
                raise CorruptShard(f"shard {self.path}: not a readable HDF5 file ({error}). Build it again.") from None
            if file.attrs.get(_FORMAT_ATTRIBUTE) != FORMAT:
                file.close()
                raise CorruptShard(f"shard {self.path}: no shard of format {FORMAT}. Build it again.")
            self._opened, self._datasets = (os.getpid(), file), {}
        return self._opened[1]


def read_rows(name: str, places: Sequence[tuple[ShardReader, int]]) -> np.ndarray:
    """Read rows of an array from several shards, stacked in this order, as `ShardReader.read_many` does.

    Raises CorruptShard; MixedShards if `places` is empty or the shards' rows differ in shape or dtype."""
    kinds = {(reader.shape(name), reader.dtype(name)) for reader in {reader for reader, _ in places}}
    if len(kinds) != 1:
        found = ", ".join(sorted(f"{dtype} {shape}" for shape, dtype in kinds)) or "nothing"
        raise MixedShards(f"rows of {name} are {found}; expected one shape and dtype. Build the shards by one config.")
    ((shape, dtype),) = kinds
    return _gathered(name, places, np.empty((len(places), *shape), dtype))


def _gathered(name: str, places: Sequence[tuple[ShardReader, int]], out: np.ndarray) -> np.ndarray:
    """Read these rows into `out` and return it."""
    try:
        decompress(_chunks(name, places, out))
    except DamagedChunk as error:
        raise CorruptShard(f"{error}. Build it again.") from None
    return out


def _chunks(name: str, places: Sequence[tuple[ShardReader, int]], out: np.ndarray) -> Iterator[Chunk]:
    """Yield the chunks of these rows; rows that are not one chunk are read immediately."""
    for place, (reader, row) in enumerate(places):
        target = out[place, ...]
        chunk = reader._chunk(name, row, target)
        if chunk is None:
            target[...] = reader.read(name, row)
        else:
            yield chunk


def content_hash(path: Path) -> str:
    """Return the SHA-256, as hex digits, of all content of a shard: ids, names, dtypes, shapes, values and attributes.

    It does not depend on times or on the bytes of the HDF5 file. Only one row is in memory. Raises CorruptShard."""
    reader, digest = ShardReader(path), hashlib.sha256()
    for name, value in reader.attributes.items():
        update_digest(digest, f"attribute {name}", f"{type(value).__name__} {value!r}")
    for id in reader.ids:
        update_digest(digest, "id", id)
    for name in reader.names:
        dataset = reader._dataset(name)
        update_digest(digest, f"array {name}", f"{little_endian(dataset.dtype).str} {dataset.shape}")
        for row in range(len(dataset)):
            digest.update(value_bytes(reader.read(name, row)))
    reader.close()
    return digest.hexdigest()


def _plain(value: Any) -> Attribute:
    plain: Attribute = value.item() if isinstance(value, np.generic) else value
    return plain


class WrongRow(ValueError):
    """Raised if a row does not fit its shard."""


class IncompleteShard(RuntimeError):
    """Raised if a shard is closed before every row is written."""


class CorruptShard(OSError):
    """Raised if a file is not a shard or its content is not what was written."""


class MixedShards(ValueError):
    """Raised if rows of several shards cannot be stacked."""
