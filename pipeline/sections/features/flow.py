"""The section [flow]: optical flow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.sections.section import Section


class FlowSection(Section):
    """The settings of optical flow, which are read if visual.modality is "flow" or "both"."""

    method: Literal["dis", "tvl1"] = Field(description="OpenCV's DIS, or TV-L1 where the installed OpenCV has it")
    bound: Annotated[float, Field(gt=0, description="pixels; displacements are clipped to it and divided by it")]
