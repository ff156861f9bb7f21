"""Reading of a feature folder in the authors' layout, row by row. Only this module and `writer` know this layout.

train.txt, test.txt         one sample per line: name, height, width (CSV without header)
video_<modality>_iccv.h5    <split>                        (N, 1, C, T, h, w) float32
txt.h5                      <split>                        (N, L, d) float32
mask.h5                     <split>/{large,medium,small}   (N, S, S), (N, S/4, S/4), (N, S/16, S/16) uint8 {0, 1}
bbox.h5                     <split>/{large,medium,small}   never used; our exports have (N, 4) float32
"""

import csv
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float32, UInt8

from data import strict_json
from data.wording import counted, numbered, shown

MODALITIES = ("rgb", "flow")
SPLITS = ("train", "test")
CELLS = {"large": 1, "medium": 4, "small": 16}  # side of a cell, in pixels of the large mask
_NO_MARK = "Export again to a new folder; if the folder is known to be whole, delete this file."
MARK = ".export.json"  # progress of an export by `writer`; the authors' folders do not have this file


@dataclass(frozen=True)
class ReferenceSample:
    """One line of a split's text file: a name and the size of the frame."""

    name: str
    height: int
    width: int


@dataclass(frozen=True)
class Place:
    """The place of an array: the file, the format of the HDF5 dataset's name, and the axes before those of a row."""

    file: str
    dataset: str
    leading: tuple[int, ...] = ()

    def key(self, split: str) -> str:
        """Return the name of the HDF5 dataset of a split."""
        return self.dataset.format(split)


def places(modality: str) -> dict[str, Place]:
    """Return the place of each array: features, words, the masks by resolution, the boxes as "bbox/<resolution>"."""
    return {
        "features": Place(f"video_{modality}_iccv.h5", "{}", (1,)),
        "words": Place("txt.h5", "{}"),
        **{resolution: Place("mask.h5", f"{{}}/{resolution}") for resolution in CELLS},
        **{f"bbox/{resolution}": Place("bbox.h5", f"{{}}/{resolution}") for resolution in CELLS},
    }


class ReferenceFolder:
    """A folder in the authors' layout, which is checked at construction. Each process that reads opens its own files.

    `modality` ("rgb", "flow") may be None if the folder holds only one of them. Boxes are not checked, since they are
    not used. Raises WrongReference if the layout differs, CorruptReference if a file cannot be opened."""

    def __init__(self, path: Path, modality: str | None = None) -> None:
        self.path = path
        self._opened: tuple[int, dict[str, Any]] | None = None  # process id; files and HDF5 datasets by name
        self.modality = self._chosen(modality)
        self._places = places(self.modality)
        self._refuse_unfinished()
        lists = {split: path / f"{split}.txt" for split in SPLITS}
        self._samples = {split: _samples(file) for split, file in lists.items() if file.is_file()}
        self._shapes = self._checked()

    def splits(self) -> tuple[str, ...]:
        """Return the splits that the folder contains, in the order "train", "test"."""
        return tuple(self._samples)

    def rows(self, split: str) -> int:
        """Return the number of samples of a split."""
        return len(self.samples(split))

    def samples(self, split: str) -> tuple[ReferenceSample, ...]:
        """Return the samples of a split, in the order of their rows; names may repeat. Raises WrongReference."""
        if split not in self._samples:
            raise WrongReference(
                f"{self.path}: no {split} split; it has {', '.join(self._samples)}. Choose one of them."
            )
        return self._samples[split]

    @property
    def features_shape(self) -> tuple[int, int, int, int]:
        """Shape of one row of visual features in all splits: channels, time, height, width."""
        channels, time, height, width = self._shapes["features"]
        return channels, time, height, width

    @property
    def words_shape(self) -> tuple[int, int]:
        """Shape of one row of word vectors in all splits: positions, dimensions."""
        words, dimensions = self._shapes["words"]
        return words, dimensions

    def mask_side(self, resolution: str) -> int:
        """Return the side of the masks in all splits at a resolution: "large", "medium" or "small"."""
        return self._shapes[resolution][0]

    def features(self, split: str, row: int) -> Float32[np.ndarray, "c t h w"]:
        """Return the visual features of a row. Raises CorruptReference; WrongValues if a value is not finite."""
        features: np.ndarray = self._finite("features", split, row)[0]
        return features

    def words(self, split: str, row: int) -> Float32[np.ndarray, "l d"]:
        """Return the word vectors of a row. Raises CorruptReference; WrongValues if a value is not finite."""
        return self._finite("words", split, row)

    def mask(self, split: str, resolution: str, row: int) -> UInt8[np.ndarray, "s s"]:
        """Return the target mask of a row. Raises CorruptReference; WrongValues if a value is not 0 or 1."""
        mask = self._row(resolution, split, row).astype(np.uint8, copy=False)
        if mask.max() > 1:
            raise WrongValues(
                f"{self._where(resolution, split, row)}: the mask holds {mask.max()}; expected 0 and 1 alone."
                " Obtain the file again."
            )
        return mask

    def bbox(self, split: str, resolution: str, row: int) -> np.ndarray:
        """Return a row of bbox.h5, unchecked. Raises WrongReference if the folder has no boxes; CorruptReference."""
        return self._row(f"bbox/{resolution}", split, row)

    def distinct_features(
        self, split: str, progress: Callable[[int, int], None] | None = None
    ) -> tuple[list[int], list[int]]:
        """Return the first row of each distinct feature map, and for each row the position of its map in this list.

        Maps are equal if their bytes are, compared by SHA-256. Reads every row of the split once, one row at a time.
        Raises CorruptReference, WrongValues."""
        places_of: dict[bytes, int] = {}
        first_rows: list[int] = []
        which: list[int] = []
        for row in range(self.rows(split)):
            digest = hashlib.sha256(self.features(split, row).tobytes()).digest()
            if digest not in places_of:
                places_of[digest] = len(first_rows)
                first_rows.append(row)
            which.append(places_of[digest])
            if progress is not None:
                progress(row + 1, self.rows(split))
        return first_rows, which

    def close(self) -> None:
        """Close the files that this process has opened, if any; the next read opens them again."""
        if self._opened is not None and self._opened[0] == os.getpid():
            for opened in self._opened[1].values():
                if isinstance(opened, h5py.File):
                    opened.close()
        self._opened = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _chosen(self, modality: str | None) -> str:
        if not self.path.is_dir():
            raise WrongReference(f"{self.path}: no folder. Name the one that holds train.txt, test.txt and txt.h5.")
        there = [known for known in MODALITIES if (self.path / places(known)["features"].file).is_file()]
        if modality is None and len(there) == 1:
            return there[0]
        if modality is None or modality not in there:
            files = ", ".join(places(known)["features"].file for known in there) or "no video_*_iccv.h5"
            expected = (
                "one of them to be named" if modality is None and there else places(modality or "rgb")["features"].file
            )
            raise WrongReference(f"{self.path}: found {files}; expected {expected}. Choose the modality, rgb or flow.")
        return modality

    def _refuse_unfinished(self) -> None:
        try:
            mark = strict_json.read(self.path / MARK)
        except FileNotFoundError:
            return
        except (OSError, strict_json.NotJSON) as error:
            raise WrongReference(f"{self.path / MARK}: {error}. {_NO_MARK}") from None
        if not isinstance(mark, dict) or type(mark.get("finished")) is not bool:
            raise WrongReference(f"{self.path / MARK}: {shown(mark)}; expected the mark of an export. {_NO_MARK}")
        if not mark["finished"]:
            rows = f"{shown(mark.get('done'))} of {shown(mark.get('total'))} {numbered(mark.get('total'), 'row')}"
            raise WrongReference(
                f"{self.path}: an export that stopped after {rows}."
                " Run the same `acga export` again; it continues there."
            )

    def _checked(self) -> dict[str, tuple[int, ...]]:
        """Check the layout of both splits and return the row shape of each array that is used."""
        used = [name for name in self._places if not name.startswith("bbox/")]
        for split in SPLITS:
            there = {f"{split}.txt": split in self._samples}
            there |= {
                f"{self._places[name].file} {self._places[name].key(split)}": self._has(name, split) for name in used
            }
            if any(there.values()) and not all(there.values()):
                found, missing = ([name for name in there if there[name] is wanted] for wanted in (True, False))
                raise WrongReference(
                    f"{self.path}: the {split} split has {', '.join(found)}, but not {', '.join(missing)}."
                    " Obtain what is missing, or take the split out of every file."
                )
        if not self._samples:
            raise WrongReference(f"{self.path}: no split; expected train.txt or test.txt. Obtain the missing files.")
        shapes: dict[str, tuple[int, ...]] = {}
        for split in self._samples:
            for name in used:
                shape = self._checked_dataset(name, split)
                if shapes.setdefault(name, shape) != shape:
                    raise WrongReference(
                        f"{self._where(name, split)}: rows of shape {shape}, but {shapes[name]} in the other split."
                        " Obtain both from one source."
                    )
        return shapes

    def _checked_dataset(self, name: str, split: str) -> tuple[int, ...]:
        dataset, place = self._dataset(name, split), self._places[name]
        shape, expected, mask = dataset.shape, self._expected(name, split), name in CELLS
        fits = len(shape) == len(expected) and all(
            found > 0 if isinstance(wanted, str) else found == wanted
            for found, wanted in zip(shape, expected, strict=True)
        )
        kinds, size, named = ("iub", 1, "uint8") if mask else ("f", 4, "float32")
        if not fits or dataset.dtype.kind not in kinds or dataset.dtype.itemsize != size:
            axes = ", ".join(str(length) for length in expected)
            raise WrongReference(
                f"{self._where(name, split)}: found {shape} {dataset.dtype}; expected ({axes}) {named}, with the"
                f" {counted(self.rows(split), 'row')} of {split}.txt. Obtain both files from one source."
            )
        if dataset.id.get_storage_size() == 0:
            raise CorruptReference(f"{self._where(name, split)}: was never written. Obtain the file again.")
        return tuple(shape[1 + len(place.leading) :])

    def _expected(self, name: str, split: str) -> tuple[int | str, ...]:
        """Return the expected shape of an HDF5 dataset; letters stand for lengths that may be any."""
        if name not in CELLS:
            axes = {"features": ("C", "T", "h", "w"), "words": ("L", "d")}[name]
            return (self.rows(split), *self._places[name].leading, *axes)
        found = self._dataset("large", split).shape
        coarsest = max(CELLS.values())
        large = max(found[-1] // coarsest, 1) * coarsest if found else coarsest
        return self.rows(split), large // CELLS[name], large // CELLS[name]

    def _finite(self, name: str, split: str, row: int) -> np.ndarray:
        values = self._row(name, split, row).astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            bad = values.size - int(np.isfinite(values).sum())
            wrong = f"{bad} of {counted(values.size, 'value')} {numbered(bad, 'is', 'are')}"
            raise WrongValues(f"{self._where(name, split, row)}: {wrong} not finite. Obtain the file again.")
        return values

    def _row(self, name: str, split: str, row: int) -> np.ndarray:
        dataset = self._dataset(name, split)
        if not 0 <= row < len(dataset):
            raise IndexError(f"{self._where(name, split)}: row {row} of {len(dataset)}")
        try:
            return np.asarray(dataset[row])
        except OSError as error:
            raise CorruptReference(
                f"{self._where(name, split, row)}: does not read ({error}). Obtain the file again."
            ) from None

    def _has(self, name: str, split: str) -> bool:
        place = self._places[name]
        return (self.path / place.file).is_file() and isinstance(
            self._file(place.file).get(place.key(split)), h5py.Dataset
        )

    def _dataset(self, name: str, split: str) -> h5py.Dataset:
        place, opened = self._places[name], self._handles()
        label = f"{place.file} {place.key(split)}"
        if label not in opened:
            if not self._has(name, split):
                raise WrongReference(f"{self._where(name, split)}: no such dataset. The folder has {self.splits()}.")
            opened[label] = self._file(place.file)[place.key(split)]
        return opened[label]

    def _file(self, file: str) -> h5py.File:
        opened = self._handles()
        if file not in opened:
            try:
                opened[file] = h5py.File(self.path / file, "r", locking="best-effort")
            except OSError as error:
                raise CorruptReference(
                    f"{self.path / file}: not a whole HDF5 file ({error}). Obtain the file again."
                ) from None
        return opened[file]

    def _handles(self) -> dict[str, Any]:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), {}
        return self._opened[1]

    def _where(self, name: str, split: str, row: int | None = None) -> str:
        place = self._places[name]
        where = f"{self.path / place.file}, dataset {place.key(split)}"
        return where if row is None else f"{where}, row {row} ({self._samples[split][row].name})"


def _samples(path: Path) -> tuple[ReferenceSample, ...]:
    samples = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            for line in lines:
                if len(line) > 1 or (line and line[0].strip()):
                    samples.append(_sample(line, f"{path}, line {lines.line_num}"))
        except (csv.Error, UnicodeDecodeError) as error:
            raise WrongReference(f"{path}, line {lines.line_num + 1}: no CSV in UTF-8 ({error}). Correct it.") from None
    return tuple(samples)


def _sample(line: list[str], where: str) -> ReferenceSample:
    if len(line) < 3 or not all(re.fullmatch(r" *0*[1-9][0-9]{0,5} *", length) for length in line[1:3]):
        raise WrongReference(
            f"{where}: found {','.join(line)!r}; expected a name, then height and width as positive integers."
            " Correct the line."
        )
    return ReferenceSample(line[0], int(line[1]), int(line[2]))


class WrongReference(ValueError):
    """Raised if a folder does not have the authors' layout."""


class WrongValues(ValueError):
    """Raised if an array contains values that it must not contain."""


class CorruptReference(OSError):
    """Raised if a file of the folder cannot be opened or read."""
