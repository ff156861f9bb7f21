"""What a recipe is given: the only thing that recipes and the pipeline share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.recipes.units import Units


@dataclass(frozen=True)
class Job:
    """One artifact to build.

    sections: the config sections that enter its key, name -> values
    members:  the raw records that it is about, as the catalogue lists them
    inputs:   stage -> folders of the artifacts it reads, in the order of their shards; where there is one for RGB and
              one for flow, "<stage>.<stream>"
    out:      the folder to write files into; every file there becomes part of the artifact
    resume:   a folder that survives a kill of this build, for checkpoints
    cache:    a folder of the whole store for what only saves time, named by content
    logs:     a folder beside the artifacts, for what people watch and nothing reads
    units:    what can be taken over from an earlier artifact, video by video
    progress: called with (done, of how many)
    """

    sections: Mapping[str, Mapping[str, Any]]
    members: Any
    inputs: Mapping[str, tuple[Path, ...]]
    out: Path
    resume: Path
    cache: Path
    logs: Path
    units: Units
    progress: Callable[[int, int], None]

    def folder(self, stage: str) -> Path:
        """The folder of the only artifact of a stage among the inputs."""
        (folder,) = self.inputs[stage]
        return folder
