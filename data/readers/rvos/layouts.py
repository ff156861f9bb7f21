"""The layouts in which Ref-YouTube-VOS, Ref-DAVIS17 and MeViS lie on a disk, and the files of their splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.readers.annotations import MissingFile, UnknownSplit, names
from data.readers.rvos import davis_text, expressions
from data.readers.rvos.expressions import Clip
from data.readers.sentence_table import Problems

META = "meta_expressions"
MASK_DICT = "mask_dict.json"
SPLITS = ("train", "test")
_DAVIS_LISTS = {"train": "train.txt", "test": "val.txt"}
_FOLDERS = {  # of a split, the first that is there
    "pictures": {"train": ("train",), "test": ("valid", "test")},
    "run lengths": {"train": ("train",), "test": ("valid_u", "valid", "test")},
}


@dataclass(frozen=True)
class Source:
    """The files of one split. `masks` is a folder with one folder of PNG files a video, or mask_dict.json."""

    split: str
    pictures: Path
    masks: Path
    clips: tuple[Clip, ...]

    @property
    def unions(self) -> bool:
        """Whether a sentence means the union of several annotations of mask_dict.json."""
        return self.masks.name == MASK_DICT


def sources(root: Path, split: str, problems: Problems) -> list[Source]:
    """Return the files of "train" or "test", or those of "all" splits that are there; entries that cannot be read are
    problems. Raises MissingFile, MalformedAnnotations, UnknownSplit, NoMasks."""
    if split not in (*SPLITS, "all"):
        raise UnknownSplit(f"no split {split!r} of a data set of kind rvos; expected train, test or all.")
    wanted = SPLITS if split == "all" else (split,)
    if (root / davis_text.FOLDER).is_dir() and not (root / META).is_dir():
        return [_davis(root, each, problems) for each in wanted]
    kind = "pictures" if (root / META).is_dir() else "run lengths"
    found = {each: _meta(root, kind, each) for each in wanted}
    there = {each: file for each, file in found.items() if file.is_file()}
    if not there or (split != "all" and split not in there):
        folders = " or ".join(_FOLDERS[kind][wanted[0]])
        raise MissingFile(
            f"no file {found[wanted[0]]}: the split {wanted[0]} of a data set of kind rvos is the folder {folders}."
            " Expected meta_expressions/<folder>/meta_expressions.json (Ref-YouTube-VOS),"
            f" <folder>/meta_expressions.json (MeViS) or {davis_text.FOLDER}/ (Ref-DAVIS17) below {root}."
        )
    return [_source(root, kind, each, file, problems) for each, file in there.items()]


def video_folders(root: Path) -> Mapping[str, None]:
    """Return the names of all folders of pictures of all splits."""
    places = [root / "DAVIS" / "JPEGImages" / "480p"]
    places += [root / name / "JPEGImages" for name in ("train", "valid", "valid_u", "test")]
    return dict.fromkeys(name for place in places for name in names(place))


def _meta(root: Path, kind: str, split: str) -> Path:
    """Return the path of the file of expressions; that of the first folder if there is none."""
    folders = _FOLDERS[kind][split]
    paths = [root / META / name if kind == "pictures" else root / name for name in folders]
    files = [path / f"{META}.json" for path in paths]
    return next((file for file in files if file.is_file()), files[0])


def _source(root: Path, kind: str, split: str, file: Path, problems: Problems) -> Source:
    folder = root / file.parent.name
    unions = kind == "run lengths"
    clips = expressions.read(root, file, unions, problems)
    masks = folder / (MASK_DICT if unions else "Annotations")
    for place in (folder / "JPEGImages", masks):
        if not place.exists():
            raise MissingFile(f"no {place}, which {file} needs. Put it there, or correct [dataset].root.")
    return Source(split, folder / "JPEGImages", masks, tuple(clips))


def _davis(root: Path, split: str, problems: Problems) -> Source:
    lists = {each: _listed(root / "DAVIS" / "ImageSets" / "2017" / name) for each, name in _DAVIS_LISTS.items()}
    frames, masks = (root / "DAVIS" / name / "480p" for name in ("JPEGImages", "Annotations"))
    for folder in (frames, masks):
        if not folder.is_dir():
            raise MissingFile(f"no folder {folder}. Unpack DAVIS-2017-trainval-480p there, or correct [dataset].root.")
    known = {video for videos in lists.values() for video in videos}
    return Source(split, frames, masks, tuple(davis_text.read(root, lists[split], known, problems)))


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MissingFile(f"{path} cannot be read ({error}). Put it there again.") from None
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))
