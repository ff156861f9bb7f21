"""The section [compute]: the device and the number of threads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.sections.section import Positive, Section


class ComputeSection(Section):
    """The device and the number of CPU threads, on which the last bits of floating point results depend."""

    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")]
    threads: Positive
