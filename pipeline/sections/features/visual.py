"""The section [visual]: the backbone, its weights and how features are extracted.

A stage of one stream reads the section without `modality` and without the weights key of the other stream.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.sections.section import Positive, Section, Seed


class BackboneSection(Section):
    """The architecture of a backbone, and the seed of its random weights if it has no others."""

    backbone: Literal["i3d", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
    batch_norm: Literal["reference", "tensorflow"] = Field(description="I3D's eps 1e-5 (the port) or 1e-3 (original)")
    width: Annotated[float, Field(gt=0, le=1, description="share of I3D's channels")]
    frames: Positive = Field(description="frames of a clip that a ResNet sees")
    seed: Seed


class TrunkSection(BackboneSection):
    """A backbone and the source of the weights of one stream; the source of the other stream's weights is None."""

    weights: str | None = None
    flow_weights: str | None = None

    def weights_of(self, stream: str) -> tuple[str, str]:
        """Return the config key of a stream's weights and its value."""
        key, value = ("weights", self.weights) if stream == "rgb" else ("flow_weights", self.flow_weights)
        assert value is not None, "a stage reads the weights of its own stream"
        return f"visual.{key}", value


class ExtractionSection(TrunkSection):
    """The settings on which the features of one stream depend."""

    batch: Positive = Field(description="clips a forward pass; the last one is padded, so results depend on it")
    compute: Literal["float32", "bfloat16"]


class VisualSection(ExtractionSection):
    """The settings of the frozen trunk for all streams, as they stand in the config."""

    modality: Literal["rgb", "flow", "both"] = Field(description="what I3D sees; 'both' trains two networks")
    weights: str = Field(min_length=1, description="'seeded', 'pretrain', 'checkpoint', or a file of weights")
    flow_weights: str = Field(min_length=1, description="of I3D for flow: 'seeded', 'checkpoint', or a file")
