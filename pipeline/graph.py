"""The whole pipeline on one page: what depends on what.

    raw videos -+- Frames --+------------------ VisualFeatures -+
                |           +- PretrainedTrunk -^ (if asked)    |
                |           +----------- Samples ---------------+- TrainedModel - Predictions - Metrics - Report
                +- Masks ----------------^ ---------------------+
    sentences ---- TextFeatures --------------------------------+

Classes only declare: the recipe that makes the artifact, the config sections that it reads, the raw records that it
is about, and its inputs. How a task is identified, built and published is `pipeline.stage`; how an artifact's files
are made is the recipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import luigi

from pipeline import catalogue
from pipeline.config import Config
from pipeline.stage import Stage


class OfRole(Stage):
    """A stage with one artifact for the train set and one for the test set."""

    role = luigi.Parameter(description="train or test")

    @property
    def label(self) -> str:
        return str(self.role)


class OfShard(OfRole):
    """A stage with one artifact for each shard of a role's videos."""

    shard = luigi.IntParameter()

    @property
    def label(self) -> str:
        return f"{self.role}/{self.shard:03d}"


class Frames(OfShard):
    """The letterboxed clip around each labelled frame."""

    recipe = "pipeline.recipes.frames:build"
    reads = ("frames",)

    def members(self) -> Any:
        return catalogue.clips(self.raw, self.role, self.shard)


class Masks(OfShard):
    """The mask of each instance in each labelled frame, at three resolutions and in the frame's own size."""

    recipe = "pipeline.recipes.masks:build"
    reads = ("frames", "masks")

    def members(self) -> Any:
        return catalogue.truths(self.raw, self.role, self.shard)


class TextFeatures(OfRole):
    """The word vectors of each sentence."""

    recipe = "pipeline.recipes.text:build"
    reads = ("text",)
    files = ("text.vectors",)

    def members(self) -> Any:
        return catalogue.sentences(self.raw, self.role)


class PretrainedTrunk(Stage):
    """The trunk, pretrained on the actor and action labels of the train set; only for visual.weights = "pretrain"."""

    recipe = "pipeline.recipes.trunk:build"
    reads = ("compute", "pretrain", "visual")
    consumes = (Frames, Masks)

    def inputs(self) -> list[Stage]:
        return all_shards(self, Frames, "train") + all_shards(self, Masks, "train")


class VisualFeatures(OfShard):
    """I3D up to mixed_4e, one row a labelled frame, however many sentences it has."""

    recipe = "pipeline.recipes.visual:build"
    reads = ("compute", "visual")
    consumes = (Frames, PretrainedTrunk)
    files = ("visual.weights", "model.checkpoint")

    def inputs(self) -> list[Stage]:
        return [self.upstream(Frames, role=self.role, shard=self.shard), *trunk(self)]


class Samples(OfRole):
    """The table of (clip, query, mask) references of the clips that could be decoded; no tensors."""

    recipe = "pipeline.recipes.samples:build"
    consumes = (Frames, Masks)

    def inputs(self) -> list[Stage]:
        return all_shards(self, Frames, self.role) + all_shards(self, Masks, self.role)

    def members(self) -> Any:
        return catalogue.queries(self.raw, self.role)


class TrainedModel(Stage):
    """ACGA, trained on the train set; or model.checkpoint in our format, if one is given."""

    recipe = "pipeline.recipes.model:build"
    reads = ("compute", "model", "text", "training", "visual")
    consumes = (Samples, VisualFeatures, Masks, TextFeatures)
    files = ("model.checkpoint", "visual.weights")

    def inputs(self) -> list[Stage]:
        if self.values["model"]["checkpoint"]:
            return []
        return [*of_samples(self, "train"), *trunk(self)]


class Predictions(Stage):
    """The masks of both protocols for every test sample."""

    recipe = "pipeline.recipes.predictions:build"
    reads = ("compute", "model", "prediction")
    consumes = (TrainedModel, Samples, VisualFeatures, Masks, TextFeatures)

    def inputs(self) -> list[Stage]:
        return [self.upstream(TrainedModel), *of_samples(self, "test")]


class Metrics(Stage):
    """Every figure under its protocol's name."""

    recipe = "pipeline.recipes.metrics:build"
    consumes = (Predictions, Samples, Masks)

    def inputs(self) -> list[Stage]:
        samples = self.upstream(Samples, role="test")
        return [self.upstream(Predictions), samples, *all_shards(self, Masks, "test")]


class Report(Stage):
    """One page: metrics beside the published ones, loss curves, and samples with their masks."""

    recipe = "pipeline.recipes.report:build"
    reads = ("frames", "model", "report", "visual")
    consumes = (TrainedModel, Predictions, Metrics, Samples, TextFeatures, Frames, Masks)

    def inputs(self) -> list[Stage]:
        test = [*all_shards(self, Frames, "test"), *all_shards(self, Masks, "test")]
        return [
            self.upstream(TrainedModel),
            self.upstream(Predictions),
            self.upstream(Metrics),
            self.upstream(Samples, role="test"),
            self.upstream(TextFeatures, role="test"),
            *test,
        ]

    def members(self) -> Any:
        return {"rules": {role: entry["rules"] for role, entry in self.raw["sets"].items()}}


STAGES: tuple[type[Stage], ...] = (
    Frames,
    Masks,
    TextFeatures,
    PretrainedTrunk,
    VisualFeatures,
    Samples,
    TrainedModel,
    Predictions,
    Metrics,
    Report,
)


def root(config: Config, store: Path, journal: Path, digest: str, until: str) -> list[Stage]:
    """The tasks of the stage `until`, from which Luigi finds everything upstream; one task where it has no shards."""
    (stage,) = (stage for stage in STAGES if stage.__name__ == until)
    values = {name: getattr(config, name).model_dump() for name in stage.needs()}
    raw = catalogue.read(store, digest)
    if issubclass(stage, OfShard):
        parts = [{"role": role, "shard": shard} for role in raw["sets"] for shard in catalogue.shards(raw, role)]
    elif issubclass(stage, OfRole):
        parts = [{"role": role} for role in raw["sets"]]
    else:
        parts = [{}]
    places = {"store": str(store), "journal": str(journal)}
    return [stage.of(values, catalogue=digest, **places, **part) for part in parts]


def all_shards(task: Stage, stage: type[Stage], role: str) -> list[Stage]:
    """A sharded stage's tasks for all videos of a role."""
    return [task.upstream(stage, role=role, shard=shard) for shard in catalogue.shards(task.raw, role)]


def of_samples(task: Stage, role: str) -> list[Stage]:
    """All that a role's samples refer to: clips, sentences and masks."""
    return [
        task.upstream(Samples, role=role),
        task.upstream(TextFeatures, role=role),
        *all_shards(task, VisualFeatures, role),
        *all_shards(task, Masks, role),
    ]


def trunk(task: Stage) -> list[Stage]:
    """The pretrained trunk, where the config asks for one."""
    return [task.upstream(PretrainedTrunk)] if task.values["visual"]["weights"] == "pretrain" else []
