"""The section [prediction]: prediction on the test set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.sections.section import Positive, Rate, Section


class PredictionSection(Section):
    """The settings of prediction on the test set."""

    batch: Positive
    precision: Literal["float32", "bfloat16"]
    fusion: list[Rate] = Field(description="weights of the RGB and the flow network's responses, for modality 'both'")
