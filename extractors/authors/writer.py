"""Writing of a feature folder in the authors' layout, row by row; an interrupted export can be continued.

HDF5 cannot continue a file whose writer was killed. Therefore each file is first created completely, with every
dataset allocated, contiguous and without filters, and closed. The rows are then written as bytes at the offsets of
the datasets. `.export.json` contains the number of rows on the disk; the text files get their final names last. For
the layout see `extractors.authors.reader`.
"""

import csv
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float32, UInt8

from data import strict_json
from data.wording import counted, numbered, shown
from extractors.authors.reader import CELLS, MARK, MODALITIES, SPLITS, ReferenceSample, places
from extractors.shards.fsync import fsync

FORMAT = 1
_LIBRARY = ("v110", "v110")  # readable by the authors' SWMR loader and their h5py
_FLOAT, _BYTE = np.dtype("<f4"), np.dtype("u1")


@dataclass(frozen=True)
class ReferenceLayout:
    """The shapes of a row: visual features (channels, time, height, width), word vectors (positions, dimensions) and
    the side of the large mask, a multiple of 16."""

    features: tuple[int, int, int, int]
    words: tuple[int, int]
    mask: int


@dataclass(frozen=True)
class ReferenceRow:
    """The arrays of one sample: features "c t h w" and words "l d", float32; masks "s s", uint8, 0 or 1.

    The bounding boxes are computed from the masks. The writer checks all arrays; its errors name the sample."""

    features: np.ndarray
    words: np.ndarray
    large: np.ndarray
    medium: np.ndarray
    small: np.ndarray


class ReferenceWriter:
    """An export of `splits` ("train", "test" -> samples) into `folder`, which must be new, empty or of the same export.

    `content` identifies the values to write, for example by a digest of their sources. Two exports are the same if
    `content`, the samples, the layout and the modality ("rgb", "flow") are equal. The constructor writes nothing.
    Raises WrongExport if the arguments are invalid, ForeignFolder if the folder holds anything else, DamagedExport if
    the files of an earlier attempt were changed, NoRoom if the disk does not have enough free space."""

    def __init__(
        self,
        folder: Path,
        modality: str,
        splits: Mapping[str, Sequence[ReferenceSample]],
        layout: ReferenceLayout,
        content: str,
    ) -> None:
        self._folder, self._layout = folder, layout
        self._splits = {split: tuple(splits[split]) for split in SPLITS if split in splits}
        _check(modality, splits, layout)
        self._places = places(modality)
        self._shapes = _shapes(layout)
        self._rows = [(split, row) for split, samples in self._splits.items() for row in range(len(samples))]
        self._digest = _digest(modality, self._splits, layout, content)
        self._done, self._finished = self._read_mark()
        if self._done:
            self._offsets()
        self._check_lists()
        self._check_room()

    @property
    def total(self) -> int:
        """The number of rows of all splits."""
        return len(self._rows)

    @property
    def done(self) -> int:
        """The number of rows that are safely on the disk; the next `write` continues after them."""
        return self._done

    @property
    def finished(self) -> bool:
        """Whether the export is complete."""
        return self._finished

    @property
    def bytes_per_row(self) -> int:
        """The number of bytes that one sample takes on the disk."""
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in self._shapes.values())

    def write(
        self,
        row: Callable[[str, int], ReferenceRow],
        progress: Callable[[int, int], None] | None = None,
        mark_every: int = 32,
    ) -> int:
        """Write all remaining rows, given in order by `row(split, number)`, and return their number; 0 if finished.

        `progress(done, total)` is called after every row. Every `mark_every` rows the files are flushed to the disk and
        the number of rows is recorded, so at most `mark_every` rows are written again after a kill. Only one row is in
        memory. Raises WrongReferenceRow; the rows recorded before it are kept."""
        if self._finished:
            return 0
        first = self._done
        self._create()
        places_of = self._offsets()
        with ExitStack() as stack:
            handles = {}
            for file in {place.file for place in self._places.values()}:
                handles[file] = os.open(self._folder / file, os.O_WRONLY)
                stack.callback(os.close, handles[file])
            for number in range(first, self.total):
                split, position = self._rows[number]
                arrays = self._checked(split, position, row(split, position))
                for name, value in arrays.items():
                    file, offset = self._places[name].file, places_of[name, split] + position * value.nbytes
                    _write_at(handles[file], value, offset)
                if (number + 1) % mark_every == 0 or number + 1 == self.total:
                    for handle in handles.values():
                        os.fsync(handle)
                    self._set_mark(number + 1, finished=False)
                if progress is not None:
                    progress(number + 1, self.total)
        for split in self._splits:
            self._list(split, ".part").replace(self._list(split))
        fsync(self._folder)
        self._set_mark(self.total, finished=True)
        return self.total - first

    def _create(self) -> None:
        """Create the files with all rows allocated and none written; files of an earlier attempt are kept."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._done == 0:
            self._set_mark(0, finished=False)
            for file in sorted({place.file for place in self._places.values()}):
                part = self._folder / f"{file}.part"
                with h5py.File(part, "w", libver=_LIBRARY, track_order=False) as opened:
                    for split in self._splits:
                        self._allocate(opened, file, split)
                fsync(part)
                part.replace(self._folder / file)
        for split, samples in self._splits.items():
            part = self._list(split, ".part")
            with part.open("w", encoding="utf-8", newline="") as text:
                lines = csv.writer(text, lineterminator="\n")
                lines.writerows((sample.name, sample.height, sample.width) for sample in samples)
            fsync(part)
        fsync(self._folder)

    def _allocate(self, opened: h5py.File, file: str, split: str) -> None:
        for name, place in self._places.items():
            if place.file == file:
                properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                properties.set_layout(h5py.h5d.CONTIGUOUS)
                properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                shape, dtype = self._whole(name, split)
                opened.create_dataset(place.key(split), shape, dtype, dcpl=properties, fill_time="never")

    def _offsets(self) -> dict[tuple[str, str], int]:
        """Return the byte offset of each HDF5 dataset in its file, by (array, split). Raises DamagedExport."""
        found = {}
        for name, place in self._places.items():
            path = self._folder / place.file
            try:
                with h5py.File(path, "r", locking="best-effort") as opened:
                    for split in self._splits:
                        dataset = opened[place.key(split)]
                        if (dataset.shape, dataset.dtype) != self._whole(name, split) or dataset.chunks:
                            raise self._damaged(path, f"{place.key(split)} is {dataset.dtype} {dataset.shape}")
                        found[name, split] = dataset.id.get_offset()
            except (OSError, KeyError) as error:
                raise self._damaged(path, str(error)) from None
        return found

    def _damaged(self, path: Path, found: str) -> "DamagedExport":
        return DamagedExport(
            f"{path}: {counted(self._done, 'row was', 'rows were')} exported, but the file is not as it was"
            f" left ({found}). Delete {self._folder} and export again."
        )

    def _checked(self, split: str, position: int, row: ReferenceRow) -> dict[str, np.ndarray]:
        """Return the checked arrays of a row as they are stored, including the bounding boxes."""
        where = f"{split} sample {position} ({self._splits[split][position].name})"
        arrays = {name: getattr(row, name) for name in ("features", "words", *CELLS)}
        for name, value in arrays.items():
            shape, dtype = self._shapes[name]
            if value.shape != shape or value.dtype != dtype:
                raise WrongReferenceRow(
                    f"{where}: {name} is {value.dtype} {value.shape}; this export's is {dtype} {shape}. Convert it."
                )
            if not np.isfinite(value).all():
                wrong = value.size - int(np.isfinite(value).sum())
                raise WrongReferenceRow(
                    f"{where}: {wrong} of {counted(value.size, 'value')} of {name}"
                    f" {numbered(wrong, 'is', 'are')} not finite. Build their artifact anew."
                )
        for resolution in CELLS:
            if arrays[resolution].max() > 1:
                raise WrongReferenceRow(
                    f"{where}: the {resolution} mask holds {arrays[resolution].max()}; masks hold 0 and 1. Convert it."
                )
            arrays[f"bbox/{resolution}"] = mask_box(arrays[resolution])
        return arrays

    def _whole(self, name: str, split: str) -> tuple[tuple[int, ...], np.dtype]:
        shape, dtype = self._shapes[name]
        return (len(self._splits[split]), *self._places[name].leading, *shape), dtype

    def _list(self, split: str, suffix: str = "") -> Path:
        return self._folder / f"{split}.txt{suffix}"

    def _read_mark(self) -> tuple[int, bool]:
        if not self._folder.exists():
            return 0, False
        if not self._folder.is_dir():
            raise ForeignFolder(f"{self._folder}: a file. Export to a new folder.")
        if not (self._folder / MARK).exists():
            others = sorted(path.name for path in self._folder.iterdir() if path.name != f"{MARK}.part")
            if others:
                listed = ", ".join(others[:5])
                raise ForeignFolder(f"{self._folder}: not empty ({listed}) and no export. Export to a new folder.")
            return 0, False
        try:
            mark = strict_json.read(self._folder / MARK)
            digest, done, total, finished = (mark[name] for name in ("digest", "done", "total", "finished"))
            if [type(each) for each in (digest, done, total, finished)] != [str, int, int, bool] or done < 0:
                raise ValueError("other types than those of a mark")
        except (ValueError, KeyError, TypeError):
            raise ForeignFolder(f"{self._folder / MARK}: no mark of an export. Export to a new folder.") from None
        if digest != self._digest:
            raise ForeignFolder(
                f"{self._folder}: holds {shown(done)} of {shown(total)} {numbered(total, 'row')} of"
                f" another export (digest {digest[:12]},"
                f" this one's is {self._digest[:12]}): other samples, features or shapes. Export to a new folder."
            )
        return done, finished

    def _set_mark(self, done: int, *, finished: bool) -> None:
        mark = {"format": FORMAT, "digest": self._digest, "done": done, "total": self.total, "finished": finished}
        part = self._folder / f"{MARK}.part"
        part.write_text(json.dumps(mark) + "\n", encoding="utf-8")
        fsync(part)
        part.replace(self._folder / MARK)
        fsync(self._folder)
        self._done, self._finished = done, finished

    def _check_lists(self) -> None:
        missing = [self._list(split) for split in self._splits if not self._list(split).is_file()]
        if self._finished and missing:
            raise self._damaged(missing[0], "it is gone")

    def _check_room(self) -> None:
        there = next(path for path in (self._folder.absolute(), *self._folder.absolute().parents) if path.exists())
        needed, free = (self.total - self._done) * self.bytes_per_row, shutil.disk_usage(there).free
        if needed > free:
            raise NoRoom(
                f"{self._folder}: {counted(self.total - self._done, 'row needs', 'rows need')} {needed:,} bytes;"
                f" {free:,} are free. Make room, or export elsewhere."
            )


def mask_box(mask: UInt8[np.ndarray, "s s"]) -> Float32[np.ndarray, "4"]:
    """Return the bounding box of a mask: left, top, right, bottom, the last two exclusive; zeros if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros(4, _FLOAT)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], _FLOAT)


def _check(modality: str, splits: Mapping[str, Sequence[ReferenceSample]], layout: ReferenceLayout) -> None:
    if modality not in MODALITIES:
        raise WrongExport(f"modality {modality!r}: expected one of {', '.join(MODALITIES)}.")
    if not splits or not {*splits} <= {*SPLITS} or not all(splits.values()):
        counts = {split: len(samples) for split, samples in splits.items()}
        raise WrongExport(f"splits {counts}: expected train, test or both, each with samples. Leave out empty ones.")
    if min(*layout.features, *layout.words, layout.mask) < 1 or layout.mask % max(CELLS.values()):
        raise WrongExport(f"{layout}: expected lengths of at least 1 and a mask side that 16 divides.")
    for split, samples in splits.items():
        for number, sample in enumerate(samples):
            if not sample.name or not sample.name.isprintable() or min(sample.height, sample.width) < 1:
                raise WrongExport(
                    f"{split} sample {number}: found {sample}; expected a printable name and a positive size."
                )


def _shapes(layout: ReferenceLayout) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    return {
        "features": (layout.features, _FLOAT),
        "words": (layout.words, _FLOAT),
        **{resolution: ((layout.mask // cell,) * 2, _BYTE) for resolution, cell in CELLS.items()},
        **{f"bbox/{resolution}": ((4,), _FLOAT) for resolution in CELLS},
    }


def _digest(
    modality: str, splits: Mapping[str, Sequence[ReferenceSample]], layout: ReferenceLayout, content: str
) -> str:
    named = {split: [[sample.name, sample.height, sample.width] for sample in splits[split]] for split in splits}
    document = {"format": FORMAT, "modality": modality, "splits": named, "layout": asdict(layout), "content": content}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _write_at(handle: int, value: np.ndarray, offset: int) -> None:
    left = memoryview(value.tobytes())
    while left:  # pwrite may write only a part
        written = os.pwrite(handle, left, offset)
        left, offset = left[written:], offset + written


class WrongExport(ValueError):
    """Raised if the samples or shapes do not fit the authors' layout."""


class WrongReferenceRow(ValueError):
    """Raised if a row does not fit its export."""


class ForeignFolder(ValueError):
    """Raised if a folder contains anything other than this export."""


class DamagedExport(RuntimeError):
    """Raised if the files of an export were changed since its last write."""


class NoRoom(OSError):
    """Raised if the disk does not have enough free space for the export."""
