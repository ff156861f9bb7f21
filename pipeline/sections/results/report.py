"""The section [report]: the report page."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.sections.section import Positive, Section, Seed


class ReportSection(Section):
    """The settings of the report page; `seeds` is the number of networks trained with different seeds."""

    samples: Annotated[int, Field(ge=0, le=100, description="test samples shown with their masks")]
    seed: Seed
    seeds: Positive
