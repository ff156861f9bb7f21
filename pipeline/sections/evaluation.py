"""The sections [prediction], [metrics] and [report]: from a trained network to the page."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.sections.section import Positive, Rate, Section, Seed


class PredictionSection(Section):
    """Prediction on the test set."""

    batch: Positive
    precision: Literal["float32", "bfloat16"]
    fusion: list[Rate] = Field(description="weights of the RGB and the flow network's responses, for modality 'both'")


class MetricsSection(Section):
    """Confidence intervals of scores, by the bootstrap over videos."""

    resamples: Annotated[int, Field(ge=10, description="draws of as many videos as there are")]
    seed: Seed


class ReportSection(Section):
    """The page."""

    samples: Annotated[int, Field(ge=0, le=100, description="test samples shown with their masks")]
    seed: Seed
    seeds: Positive
