"""The sections [prediction], [metrics] and [report]: prediction on the test set, its scores, and the report page."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.sections.section import Positive, Rate, Section, Seed


class PredictionSection(Section):
    """The settings of prediction on the test set."""

    batch: Positive
    precision: Literal["float32", "bfloat16"]
    fusion: list[Rate] = Field(description="weights of the RGB and the flow network's responses, for modality 'both'")


class MetricsSection(Section):
    """The settings of the confidence intervals of scores, by the bootstrap over videos."""

    resamples: Annotated[int, Field(ge=10, description="draws of as many videos as there are")]
    seed: Seed


class ReportSection(Section):
    """The settings of the report page; `seeds` is the number of networks trained with different seeds."""

    samples: Annotated[int, Field(ge=0, le=100, description="test samples shown with their masks")]
    seed: Seed
    seeds: Positive
