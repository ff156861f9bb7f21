"""The section [metrics]: the confidence intervals of the scores."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.sections.section import Section, Seed


class MetricsSection(Section):
    """The settings of the confidence intervals of scores, by the bootstrap over videos."""

    resamples: Annotated[int, Field(ge=10, description="draws of as many videos as there are")]
    seed: Seed
