"""The section [pretrain]: pretraining of the trunk."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.sections.section import Positive, Rate, Section, Seed


class PretrainSection(Section):
    """The settings of pretraining on the data set's actor and action labels, read if visual.weights is "pretrain"."""

    epochs: Positive
    batch: Positive
    lr: Rate
    warmup: Annotated[int, Field(ge=0, description="steps of a linear warm-up, before a cosine to zero")]
    weight_decay: Annotated[float, Field(ge=0)]
    foreground_weight: Rate
    colour_weight: Annotated[float, Field(ge=0, description="weight of the colour loss; 0 leaves it out")]
    flip: bool = Field(description="mirror clips at random")
    seed: Seed
    videos: list[str] = Field(description="ids of the only videos to learn from; [] for all of the train split")
