"""The job that the engine passes to a stage; it is the only interface between the engine and the stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypedDict, TypeVar

from pipeline.sections.section import Section
from pipeline.stages.support.units import Units

Settings = TypeVar("Settings", bound=Section)
Records = TypeVar("Records")


class RawFile(TypedDict):
    """A raw file that the config names."""

    path: str
    sha256: str


class StreamRecords(TypedDict):
    """The records of a stage that has one artifact per stream."""

    stream: str


@dataclass(frozen=True)
class Job(Generic[Settings, Records]):
    """An artifact to build.

    settings: the config sections that enter its key
    records:  the raw records that it covers, as listed in the catalogue
    files:    the raw files that the config names for the stage, by config key
    inputs:   stage -> folders of the artifacts to read, in the order of their shards; the name is "<stage>.<stream>"
              for stages with one artifact for RGB and one for flow
    out:      the folder for the output; every file in it becomes part of the artifact
    resume:   a folder for checkpoints, which is kept if this build is killed
    cache:    a folder shared by the whole store, for files that only save time and are named by content
    logs:     a folder outside the artifacts, for logs that users watch and no stage reads
    units:    the results that can be reused from earlier artifacts, video by video
    progress: a function to call with (done, total)
    notes:    a dict for what users should know of how the artifact came about; it becomes part of the manifest
    """

    settings: Settings
    records: Records
    files: Mapping[str, RawFile]
    inputs: Mapping[str, tuple[Path, ...]]
    out: Path
    resume: Path
    cache: Path
    logs: Path
    units: Units
    progress: Callable[[int, int], None]
    notes: dict[str, str] = field(default_factory=dict)

    def folder(self, stage: str) -> Path:
        """Return the folder of the only artifact of a stage among the inputs. Raises ValueError if it is not unique."""
        (folder,) = self.inputs[stage]
        return folder
