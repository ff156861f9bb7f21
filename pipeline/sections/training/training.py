"""The section [training]: training of the backbone's head and the network after it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.sections.section import Positive, Rate, Section, Seed


class TrainingSection(Section):
    """The settings of training of the backbone's head and the network after it."""

    epochs: Positive
    batch: Positive
    accumulate: Positive = Field(description="parts that a batch is computed in; batch norm sees each by itself")
    lr: Rate
    lr_drop_every: Positive = Field(description="epochs after which lr is multiplied by lr_drop, again and again")
    lr_drop: Annotated[float, Field(gt=0, le=1)]
    foreground_weight: Rate
    gradient_norm: Annotated[float, Field(ge=0, description="gradients are clipped to it; 0: not")]
    precision: Literal["float32", "bfloat16"]
    flip: bool = Field(description="mirror clips at random, left and right in their sentences, too")
    sampling: Literal["epoch", "reference", "clips"]
    validation: Annotated[float, Field(ge=0, lt=1, description="share of the videos held out; 0 for none")]
    patience: Annotated[int, Field(ge=0, description="epochs without improvement before it stops; 0: never")]
    checkpoint_every: Annotated[int, Field(ge=0, description="steps between checkpoints; 0: after epochs alone")]
    processes: Positive = Field(description="that share each batch, one slot each; 'auto' for every slot of the host")
    seed: Seed

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.patience > 0 and self.validation == 0:
            raise ValueError(
                f"training.patience = {self.patience}, but training.validation = 0 holds out no videos to improve on;"
                " give it a share, or set patience to 0"
            )
        return self
