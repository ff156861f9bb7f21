"""The graph of the pipeline's stages and their dependencies.

    raw videos -+- Frames --+------------------ VisualFeatures -+
                |           +- Flow ------------^ (if asked)    |
                |           +- PretrainedTrunk -^ (if asked)    |
                |           +----------- Samples ---------------+- TrainedModel - Predictions - Metrics - Report
                +- Masks ----------------^ ---------------------+
    sentences ---- TextFeatures --------------------------------+

A stream is the input of a network: "rgb" or "flow". A config has one stream, or both, whose predictions are fused.

Each class only declares the module below `pipeline.stages` that makes the artifact's files, the config sections that
the stage reads, the raw records that the artifact covers, and its inputs. `pipeline.engine.stage` defines the identity
of a task, and `pipeline.engine.build` builds and publishes its artifact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import luigi

from pipeline.config import Config
from pipeline.engine import catalogue
from pipeline.engine.runnable import RunnableStage
from pipeline.engine.stage import Stage

BACKBONE = ("visual.backbone", "visual.batch_norm", "visual.frames", "visual.seed", "visual.width")
"""The config keys that define a backbone without pretrained weights."""


class OfRole(RunnableStage):
    """A stage with one artifact for the train set and one for the test set."""

    role = luigi.Parameter(description="train or test")

    @property
    def label(self) -> str:
        return str(self.role)


class OfShard(OfRole):
    """A stage with one artifact for each shard of a role's videos."""

    shard = luigi.IntParameter()

    def videos(self) -> list[str]:
        return [video["id"] for video in self.raw["sets"][self.role]["of_shard"][self.shard]]

    @property
    def label(self) -> str:
        return f"{self.role}/{self.shard:03d}"


class OfStream(RunnableStage):
    """A stage with one artifact for each stream."""

    stream = luigi.Parameter(description="rgb or flow")

    @property
    def label(self) -> str:
        return " ".join(part for part in (super().label, str(self.stream)) if part)

    @property
    def provides(self) -> tuple[str, ...]:
        return (f"{self.stage}.{self.stream}",)

    def members(self) -> Any:
        return {"stream": self.stream}

    def settings(self) -> dict[str, dict[str, Any]]:
        """Return the sections without visual.modality and without the key of the other stream's weights."""
        sections = super().settings()
        others = ("modality", "flow_weights" if self.stream == "rgb" else "weights")
        return sections | {"visual": {key: value for key, value in sections["visual"].items() if key not in others}}

    def raw_members(self) -> Any:
        members = super().raw_members()
        own, other = ("weights", "flow_weights") if self.stream == "rgb" else ("flow_weights", "weights")
        unread = {f"visual.{other}"}
        if "model" not in self.reads and self.values["visual"][own] != "checkpoint":
            unread.add("model.checkpoint")
        return members | {"files": {key: file for key, file in members["files"].items() if key not in unread}}


class Frames(OfShard):
    """The letterboxed clip around each labelled frame, and the frame after it."""

    implementation = "pipeline.stages.dataset.frames"
    reads = ("frames",)
    by_video = ()

    def members(self) -> Any:
        return catalogue.clips(self.raw, self.role, self.shard)


class Flow(OfShard):
    """The optical flow of each clip, if visual.modality is "flow" or "both"."""

    implementation = "pipeline.stages.features.flow"
    reads = ("flow",)
    consumes = (Frames,)
    by_video = ("Frames",)

    def inputs(self) -> list[Stage]:
        return [self.upstream(Frames, role=self.role, shard=self.shard)]


class Masks(OfShard):
    """The mask of each instance in each labelled frame, at three resolutions and at the original size of the frame."""

    implementation = "pipeline.stages.dataset.masks"
    reads = ("frames.size", "masks")
    by_video = ()

    def members(self) -> Any:
        return catalogue.truths(self.raw, self.role, self.shard)


class TextFeatures(OfRole):
    """The word vectors of each sentence."""

    implementation = "pipeline.stages.features.text"
    reads = ("text",)
    files = ("text.vectors",)

    def members(self) -> Any:
        return catalogue.sentences(self.raw, self.role)


class PretrainedTrunk(OfStream):
    """The trunk pretrained on the actor and action labels of the train set, if visual.weights is "pretrain"."""

    implementation = "pipeline.stages.training.trunk"
    reads = ("compute", "pretrain", *BACKBONE)
    consumes = (Frames, Masks)

    def inputs(self) -> list[Stage]:
        return of_role(self, "train", (Frames, Masks))


class VisualFeatures(OfStream, OfShard):
    """The output of the trunk (of I3D, at mixed_4e, or of a ResNet): one row per labelled frame, for all sentences."""

    implementation = "pipeline.stages.features.visual"
    reads = ("compute", "visual")
    consumes = (Frames, Flow, PretrainedTrunk)
    by_video = ("Frames", "Flow")
    files = ("visual.weights", "visual.flow_weights", "model.checkpoint")

    def inputs(self) -> list[Stage]:
        source = Frames if self.stream == "rgb" else Flow
        return [self.upstream(source, role=self.role, shard=self.shard), *trunk(self, self.stream)]


class Imported(OfRole):
    """The samples of a folder in the authors' layout, which replace earlier stages; for dataset.kind "reference"."""

    implementation = "pipeline.stages.dataset.imported"
    carries = ("visual",)

    @property
    def provides(self) -> tuple[str, ...]:
        return ("Samples", "TextFeatures", "Masks", f"VisualFeatures.{self.values['visual']['modality']}")

    def members(self) -> Any:
        entry = self.raw["sets"][self.role]
        return {"split": entry["split"], "stream": self.values["visual"]["modality"], "files": entry["files"]}


class Samples(OfRole):
    """The table of references to clip, query and mask, for the clips that could be decoded; it contains no tensors."""

    implementation = "pipeline.stages.dataset.samples"
    consumes = (Frames, Masks)

    def inputs(self) -> list[Stage]:
        return of_role(self, self.role, (Frames, Masks))

    def members(self) -> Any:
        return catalogue.queries(self.raw, self.role)


REFERRED: tuple[type[Stage], ...] = (Samples, TextFeatures, VisualFeatures, Masks, Imported)
"""The stages that hold the samples of a role and the data to which they refer."""


class TrainedModel(OfStream):
    """ACGA trained on the train set, or the network of model.checkpoint in our format if one is given."""

    implementation = "pipeline.stages.training.model"
    reads = ("compute", "model", "text.dim", "training", *BACKBONE, "visual.weights", "visual.flow_weights")
    consumes = REFERRED
    files = ("model.checkpoint", "visual.weights", "visual.flow_weights")

    @property
    def slots(self) -> int:
        return int(self.values["training"]["processes"])

    def inputs(self) -> list[Stage]:
        if self.values["model"]["checkpoint"]:
            return []
        return [*of_role(self, "train", REFERRED, [self.stream]), *trunk(self, self.stream)]


class Predictions(RunnableStage):
    """The predicted masks of both protocols for every test sample."""

    implementation = "pipeline.stages.results.predictions"
    reads = ("compute", "model.mode", "prediction")
    carries = ("visual",)
    consumes = (TrainedModel, *REFERRED)

    def inputs(self) -> list[Stage]:
        models = [self.upstream(TrainedModel, stream=stream) for stream in streams(self.values)]
        return [*models, *of_role(self, "test", REFERRED, streams(self.values))]


class Metrics(RunnableStage):
    """The scores of the predictions under both protocols."""

    implementation = "pipeline.stages.results.metrics"
    reads = ("metrics",)
    consumes = (Predictions, Samples, Masks)

    def inputs(self) -> list[Stage]:
        return [self.upstream(Predictions), *of_role(self, "test", (Samples, Masks))]


class Report(RunnableStage):
    """The report page: metrics beside the published ones, loss curves, and samples with their masks."""

    implementation = "pipeline.stages.results.report"
    reads = ("frames.size", "report")
    carries = ("visual",)
    consumes = (TrainedModel, Predictions, Metrics, Samples, TextFeatures, Frames, Masks)

    def inputs(self) -> list[Stage]:
        return [
            *(self.upstream(TrainedModel, stream=stream) for stream in streams(self.values)),
            self.upstream(Predictions),
            self.upstream(Metrics),
            *of_role(self, "test", (Samples, TextFeatures, Frames, Masks)),
            *(self.of_seed(Metrics, offset) for offset in range(1, self.values["report"]["seeds"])),
        ]

    def of_seed(self, stage: type[Stage], offset: int) -> Stage:
        """Return a task of the same experiment with `offset` added to the seeds of [model] and [training]."""
        seeded = {
            name: self.values[name] | {"seed": self.values[name]["seed"] + offset} for name in ("model", "training")
        }
        places = {"store": self.store, "journal": self.journal}
        return stage.of(self.values | seeded, catalogue=self.catalogue, **places)

    def members(self) -> Any:
        return {"rules": {role: entry["rules"] for role, entry in self.raw["sets"].items()}}


STAGES: tuple[type[Stage], ...] = (
    Frames,
    Flow,
    Masks,
    TextFeatures,
    PretrainedTrunk,
    VisualFeatures,
    Imported,
    Samples,
    TrainedModel,
    Predictions,
    Metrics,
    Report,
)


def root(config: Config, store: Path, journal: Path, digest: str, until: str) -> list[Stage]:
    """Return the tasks of the stage `until`, from which Luigi finds all upstream tasks.

    There is one task for each combination of role, stream and shard that the stage has.
    """
    (stage,) = (stage for stage in STAGES if stage.__name__ == until)
    values = {name: getattr(config, name).model_dump() for name in stage.needs()}
    raw = catalogue.read(store, digest)
    parts = parts_of(stage, raw, raw["sets"], config.streams)
    places = {"store": str(store), "journal": str(journal)}
    return [stage.of(values, catalogue=digest, **places, **part) for part in parts]


def of_role(task: Stage, role: str, stages: Sequence[type[Stage]], of_streams: Sequence[str] = ("rgb",)) -> list[Stage]:
    """Return the tasks of some stages for all videos of a role, or the single task `Imported` of an imported role."""
    if task.raw["sets"][role]["kind"] == "reference":
        return [task.upstream(Imported, role=role)]
    found = []
    for stage in stages:
        if stage is not Imported:
            parts = parts_of(stage, task.raw, [role], of_streams)
            found += [task.upstream(stage, **part) for part in parts]
    return found


def parts_of(
    stage: type[Stage], raw: dict[str, Any], roles: Iterable[str], of_streams: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the parameters (role, stream, shard) of each task of a stage."""
    parts: list[dict[str, Any]] = [{}]
    if issubclass(stage, OfRole):
        parts = [{"role": role} for role in roles]
    if issubclass(stage, OfStream):
        parts = [part | {"stream": stream} for stream in of_streams for part in parts]
    if issubclass(stage, OfShard):
        parts = [part | {"shard": shard} for part in parts for shard in catalogue.shards(raw, part["role"])]
    return parts


def trunk(task: Stage, stream: str) -> list[Stage]:
    """Return a list of the pretrained trunk's task, empty unless `stream` is "rgb" and its weights are "pretrain"."""
    wanted = stream == "rgb" and task.values["visual"]["weights"] == "pretrain"
    return [task.upstream(PretrainedTrunk, stream=stream)] if wanted else []


def streams(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the streams of the section [visual], each of which has its own network."""
    modality = values["visual"]["modality"]
    return ("rgb", "flow") if modality == "both" else (modality,)
