"""Shards: HDF5 files of rows, written once and read by many. The one module that knows the HDF5 layout.

/<name>       (rows, *shape)   one chunk a row, Zstandard; arrays of less than 1 KiB a row lie plain and unchunked
/ids          (rows,)          UTF-8
/valid        (rows,) uint8    1 where the row was written, and itself written last: HDF5 reads unwritten rows as zeros
/digests      (rows, 32) uint8 SHA-256 of the row's id and arrays
attributes    the caller's, and `shard_format`
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import hdf5plugin
import numpy as np

FORMAT = 1
_LEVEL = 3
_PLAIN_BELOW_BYTES = 1024
_RESERVED = ("ids", "valid", "digests")
_FORMAT_ATTRIBUTE = "shard_format"

Attribute = str | int | float


class ShardWriter:
    """A context that writes `rows` rows of the `arrays` (name -> shape of a row, dtype) to `path`.

    The file lies at `path` + ".part" until every row is written, flushed to disk and verified; after an error nothing
    is left. Files are byte-identical from run to run with the same versions of HDF5 and Zstandard. Leaving the context
    raises IncompleteShard where a row was not written, CorruptShard where one does not read back."""

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
            name: (tuple(shape), _little(np.dtype(dtype))) for name, (shape, dtype) in sorted(arrays.items())
        }
        self._attributes = {**attributes, _FORMAT_ATTRIBUTE: FORMAT}
        self._ids: list[str] = [""] * rows
        self._written = [False] * rows
        self._digests = np.zeros((rows, 32), np.uint8)

    def __enter__(self) -> "ShardWriter":
        self._file = h5py.File(self._part, "w", libver="earliest", track_order=False)
        for name, (shape, dtype) in self._arrays.items():
            self._create(name, shape, dtype)
        for name, value in sorted(self._attributes.items()):
            self._file.attrs[name] = value
        return self

    def write(self, row: int, id: str, **arrays: np.ndarray) -> None:
        """Writes one row, once. Raises WrongRow where row, names, shapes or dtypes are not the declared ones."""
        where = f"shard {self._path}, row {row} ({id})"
        if not 0 <= row < len(self._ids) or self._written[row]:
            raise WrongRow(f"{where}: the shard has rows 0 to {len(self._ids) - 1}, each to be written once.")
        if sorted(arrays) != list(self._arrays):
            raise WrongRow(f"{where}: got the arrays {sorted(arrays)}; declared are {list(self._arrays)}.")
        for name, (shape, dtype) in self._arrays.items():
            if arrays[name].shape != shape or arrays[name].dtype != dtype:
                found = f"{arrays[name].dtype} {arrays[name].shape}"
                raise WrongRow(f"{where}: {name} is {found}; declared is {dtype} {shape}.")
        for name in self._arrays:
            self._file[name][row] = arrays[name]
        self._digests[row] = np.frombuffer(_row_digest(id, arrays), np.uint8)
        self._ids[row], self._written[row] = id, True

    def shorten(self, rows: int) -> None:
        """Declares that only the first `rows` rows are to be written. Raises WrongRow where that cannot be."""
        if rows == len(self._ids):
            return
        fixed = [name for name in self._arrays if self._file[name].chunks is None]
        if not 0 <= rows < len(self._ids) or any(self._written[rows:]) or fixed:
            raise WrongRow(
                f"shard {self._path}: cannot be cut from {len(self._ids)} to {rows} rows; later ones are written, or"
                f" arrays are unchunked ({', '.join(fixed) or 'none'})."
            )
        for name, (shape, _) in self._arrays.items():
            self._file[name].resize((rows, *shape))
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

    def _create(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        whole = (len(self._ids), *shape)
        if int(np.prod(shape)) * dtype.itemsize < _PLAIN_BELOW_BYTES or 0 in whole:
            self._file.create_dataset(name, whole, dtype, track_times=False)
            return
        layout = {"chunks": (1, *shape), "maxshape": whole, **hdf5plugin.Zstd(clevel=_LEVEL)}
        self._file.create_dataset(name, whole, dtype, track_times=False, **layout)

    def _finish(self) -> None:
        missing = [row for row, written in enumerate(self._written) if not written]
        if missing:
            raise IncompleteShard(
                f"shard {self._path}: {len(missing)} of {len(self._ids)} rows were not written, first {missing[0]}."
            )
        encoded = [id.encode() for id in self._ids]
        text = h5py.string_dtype("utf-8", max((len(id) for id in encoded), default=1) or 1)
        self._file.create_dataset("ids", data=np.array(encoded, dtype=text), track_times=False)
        self._file.create_dataset("valid", data=np.array(self._written, np.uint8), track_times=False)
        self._file.create_dataset("digests", data=self._digests, track_times=False)
        self._file.close()
        _flush(self._part)
        ShardReader(self._part).verify()
        self._part.replace(self._path)
        _flush(self._path.parent)


class ShardReader:
    """Reads a shard; opens the file in the process that reads, at the first need. Pickles as its path.

    Raises CorruptShard where the file is no shard."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, h5py.File] | None = None
        self._ids: tuple[str, ...] | None = None
        self._datasets: dict[str, h5py.Dataset] = {}  # of the file that is open

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
        """The attributes that the shard was written with."""
        return {name: _plain(value) for name, value in sorted(self._file().attrs.items()) if name != _FORMAT_ATTRIBUTE}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one row of an array."""
        return tuple(self._dataset(name).shape[1:])

    def read(self, name: str, row: int) -> np.ndarray:
        """One row of an array. Raises CorruptShard."""
        dataset = self._dataset(name)
        if not 0 <= row < len(dataset):
            raise IndexError(f"shard {self.path}: row {row} of {name}, which has {len(dataset)} rows")
        try:
            return np.asarray(dataset[row])
        except OSError as error:
            raise CorruptShard(
                f"shard {self.path}, row {row}: {name} does not read ({error}). Build it anew."
            ) from None

    def array(self, name: str) -> np.ndarray:
        """A whole array. Raises CorruptShard."""
        try:
            return np.asarray(self._dataset(name)[...])
        except OSError as error:
            raise CorruptShard(f"shard {self.path}: {name} does not read ({error}). Build it again.") from None

    def row_digest(self, row: int) -> str:
        """The SHA-256, as hex digits, that was stored for a row's id and arrays."""
        return self.read("digests", row).tobytes().hex()

    def verify(self) -> None:
        """Reads every row. Raises CorruptShard at the first that is not valid or does not match its digest."""
        valid, digests, names = self.array("valid"), self.array("digests"), self.names
        if not len(valid) == len(digests) == len(self.ids) or any(len(self._dataset(n)) != len(valid) for n in names):
            raise CorruptShard(f"shard {self.path}: its arrays do not have the same number of rows. Build it again.")
        for row, id in enumerate(self.ids):
            found = _row_digest(id, {name: np.asarray(self.read(name, row)) for name in names})
            if valid[row] != 1 or digests[row].tobytes() != found:
                raise CorruptShard(f"shard {self.path}, row {row} ({id}): not what was written. Build it again.")

    def close(self) -> None:
        """Closes this process's handle, if any; the next read opens another."""
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
        if name not in self._datasets:  # looking one up costs as much as reading a small row
            if name not in file:
                raise CorruptShard(f"shard {self.path}: no array {name}; it has {', '.join(self.names)}.")
            self._datasets[name] = file[name]
        return self._datasets[name]

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


def content_hash(path: Path) -> str:
    """SHA-256, as hex digits, over all that a reader can see: names, dtypes, shapes, values, attributes.

    Never over times or container bytes. Memory: one row. Raises CorruptShard."""
    reader, digest = ShardReader(path), hashlib.sha256()
    for name, value in reader.attributes.items():
        _feed(digest, f"attribute {name}", f"{type(value).__name__} {value!r}")
    for id in reader.ids:
        _feed(digest, "id", id)
    for name in reader.names:
        dataset = reader._dataset(name)
        _feed(digest, f"array {name}", f"{_little(dataset.dtype).str} {dataset.shape}")
        for row in range(len(dataset)):
            digest.update(_bytes(reader.read(name, row)))
    reader.close()
    return digest.hexdigest()


def _row_digest(id: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    _feed(digest, "id", id)
    for name, value in sorted(arrays.items()):
        _feed(digest, f"array {name}", f"{_little(value.dtype).str} {value.shape}")
        digest.update(_bytes(value))
    return digest.digest()


def _feed(digest: Any, *texts: str) -> None:
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)


def _bytes(value: np.ndarray) -> bytes:
    value = np.asarray(value)
    return np.ascontiguousarray(value, dtype=_little(value.dtype)).tobytes()


def _little(dtype: np.dtype) -> np.dtype:
    return dtype.newbyteorder("<")


def _plain(value: Any) -> Attribute:
    return value.item() if isinstance(value, np.generic) else value


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class WrongRow(ValueError):
    """A row that does not fit its shard."""


class IncompleteShard(RuntimeError):
    """A shard that was closed before every row was written."""


class CorruptShard(OSError):
    """A file that is not what was written."""
