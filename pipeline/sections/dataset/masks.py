"""The section [masks]: target masks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.sections.section import Section


class MasksSection(Section):
    """The settings of target masks at three resolutions: frames.size, frames.size/4 and frames.size/16."""

    threshold: Annotated[float, Field(gt=0, le=1, description="share of a cell that must be covered")]
