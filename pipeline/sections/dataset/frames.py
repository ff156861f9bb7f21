"""The section [frames]: the clip around a labelled frame."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.sections.section import Section


class FrameSize(Section):
    """The size of frames, for stages that read no other key of [frames]."""

    size: Annotated[int, Field(ge=32, multiple_of=16, description="letterboxed height and width")]


class FramesSection(FrameSize):
    """The settings of the clip around a labelled frame."""

    length: Annotated[int, Field(ge=4, multiple_of=4, description="frames of a clip; the labelled one is length/2")]
    limit_seconds: Annotated[float, Field(gt=0, description="a video that takes longer to decode fails its task")]
    verify: Literal["all"] | Annotated[float, Field(ge=0, le=1)] = Field(
        description="share of the videos that a second decoder checks, or 'all'"
    )
