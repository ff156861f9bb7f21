"""The report's page. Its context is what `pipeline.stages.results.report` collects."""

from __future__ import annotations

from pathlib import Path

from pipeline.pages.template import render

TEMPLATE = "report.html"


def report_page(**context: object) -> str:
    """The page as HTML."""
    return render(Path(__file__).with_name(TEMPLATE), percent=lambda value: f"{100 * value:.1f}", **context)
