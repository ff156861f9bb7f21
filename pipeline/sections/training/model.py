"""The section [model]: the network after the trunk."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.sections.section import Positive, Section, Seed


class ModelMode(Section):
    """The mode of computation of the network, for stages that read no other key of [model]."""

    mode: Literal["fast", "plain"] = Field(description="the paper's operations one by one, or the same values faster")


class ModelSection(ModelMode):
    """The settings of the network after the trunk."""

    checkpoint: str = Field(description="a trained model, ours or the authors' (skips training); '' to train")
    attention: bool = Field(description="cross-guided attention; false is the FCN baseline")
    fusion: bool = Field(description="of the three responses; without it the finest is the prediction")
    initialisation: Literal["authors", "scaled"]
    channels: Annotated[list[Positive], Field(min_length=2, max_length=2, description="upsampled: medium, large")]
    widths: Annotated[list[Positive], Field(min_length=3, max_length=3, description="mask heads: small, medium, large")]
    seed: Seed
