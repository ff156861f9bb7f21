"""The section [compute]: the device and the threads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.sections.section import Positive, Section


class ComputeSection(Section):
    """What floating point results depend on besides the numbers."""

    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")]
    threads: Positive
