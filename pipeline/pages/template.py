"""Jinja templates, which escape what they are given and refuse names that they are not given."""

from __future__ import annotations

from pathlib import Path

import jinja2

from data.wording import counted, numbered


def render(template: Path, **context: object) -> str:
    """The text of a template file, filled in."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals |= {"counted": counted, "numbered": numbered}
    return environment.from_string(template.read_text(encoding="utf-8")).render(**context)
