"""The origin that an export notes in `acga.json`: config sections, raw files, videos, and the clip of each row.

The file lies in a folder that users copy and edit, so `acga diff` checks all of it before it uses any of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from data import strict_json
from data.wording import counted, shown
from pipeline.sections.compute import ComputeSection
from pipeline.sections.dataset.frames import FramesSection
from pipeline.sections.document import WrongDocument, checked
from pipeline.sections.features.flow import FlowSection
from pipeline.sections.features.visual import VisualSection
from pipeline.sections.section import Section
from pipeline.store.artifact import StoreError

MOST = 4096  # pixels, frames, clips or threads: more of any of them cannot be meant

PathText = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]


class FileEntry(Section):
    """A raw file."""

    path: PathText
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FrameEntry(FileEntry):
    """The annotation of a labelled frame."""

    number: Annotated[int, Field(ge=1, le=99_999)]


class VideoEntry(FileEntry):
    """A video with its labelled frames."""

    id: PathText
    height: Annotated[int, Field(ge=1, le=100_000)]
    width: Annotated[int, Field(ge=1, le=100_000)]
    frames: Annotated[int, Field(ge=0, le=10_000_000)]
    labelled: list[FrameEntry]


class SetEntry(Section):
    """The videos of one role."""

    kind: Literal["a2d", "jhmdb"]
    videos: list[VideoEntry]


class Sections(Section):
    """The sections of the config that determine features."""

    compute: ComputeSection
    flow: FlowSection
    frames: FramesSection
    visual: VisualSection

    @model_validator(mode="after")
    def _is_of_this_world(self) -> Self:
        sizes = {
            "compute.threads": self.compute.threads,
            "frames.length": self.frames.length,
            "frames.size": self.frames.size,
            "visual.batch": self.visual.batch,
            "visual.frames": self.visual.frames,
        }
        for name, size in sizes.items():
            if size > MOST:
                raise ValueError(f"{name} is {shown(size)}; expected {MOST} or fewer")
        return self


class Origin(Section):
    """The whole document."""

    sections: Sections
    files: dict[str, FileEntry]
    sets: dict[str, SetEntry]
    trunk: PathText | None
    rows: dict[Literal["train", "test"], list[str]]

    @model_validator(mode="after")
    def _names_what_it_uses(self) -> Self:
        clips = {
            f"{video.id}/{frame.number:05d}"
            for entry in self.sets.values()
            for video in entry.videos
            for frame in video.labelled
        }
        for split, names in self.rows.items():
            for row, name in enumerate(names):
                if name not in clips:
                    raise ValueError(f"row {row} of {split} is of clip {shown(name)}, which none of its videos has")
        visual = self.sections.visual
        for key, weights in (("visual.weights", visual.weights), ("visual.flow_weights", visual.flow_weights)):
            needed = {"seeded": None, "pretrain": None, "checkpoint": "model.checkpoint"}.get(weights, key)
            if needed is not None and needed not in self.files and _is_read(key, visual.modality):
                raise ValueError(f"{key} is {shown(weights)}, but files has no {needed}")
        if visual.weights == "pretrain" and self.trunk is None:
            raise ValueError("visual.weights is 'pretrain', but there is no trunk")
        return self


def _is_read(key: str, modality: str) -> bool:
    return modality == "both" or (key == "visual.weights") == (modality == "rgb")


def read(path: Path, rows: dict[str, int]) -> dict[str, Any] | None:
    """Return the origin in a file, or None if there is no file; `rows` is the number of rows of each split.

    Raises `StoreError`, which says what is wrong with the file.
    """
    try:
        document = strict_json.read(path)
        found = checked(Origin, document)
    except FileNotFoundError:
        return None
    except (OSError, strict_json.NotJSON, WrongDocument) as error:
        raise StoreError(f"{path} is damaged ({error}); export again, or delete it") from None
    counts = {split: len(found.rows.get(split, ())) for split in ("train", "test")}
    expected = {split: rows.get(split, 0) for split in counts}
    if counts != expected:
        split = next(split for split in counts if counts[split] != expected[split])
        named = counted(counts[split], "row")
        raise StoreError(
            f"{path} names {named} of {split}, but the folder has {expected[split]}; export again, or delete it"
        )
    origin: dict[str, Any] = document
    return origin
