"""The section [masks]: target masks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.sections.section import Section


class MasksSection(Section):
    """Target masks at three resolutions: size, size/4 and size/16."""

    threshold: Annotated[float, Field(gt=0, le=1, description="share of a cell that must be covered")]
