"""Comparison of the numbers on the report's page with metrics.json and seeds.json."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Table = Mapping[str, Sequence[str]]


def printed(page: str, metrics: Mapping[str, Any], seeds: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between the tables of the page and the metrics and seeds."""
    of_scores = {name: _scores(values) for name, values in metrics["protocols"].items()}
    yield from _differing("the scores", table(page, "protocol"), of_scores)
    of_groups = {
        name: [str(values["samples"]), _percent(values["precision"]["0.5"]), _percent(values["mean_iou"])]
        for name, values in metrics["groups"].items()
    }
    yield from _differing("what identifies the actor", table(page, "attribute"), of_groups)
    of_seeds = {
        name: [_percent(found["mean"]), _percent(found["deviation"]), ", ".join(map(_percent, found["each"]))]
        for name, found in seeds.items()
    }
    yield from _differing("seeds", table(page, "mean IoU over seeds"), of_seeds)


def _scores(values: Mapping[str, Any]) -> list[str]:
    numbers = [*values["precision"].values(), values["map"], values["overall_iou"], values["mean_iou"]]
    interval = " to ".join(map(_percent, values["intervals"]["mean_iou"]))
    return [str(values["samples"]), *map(_percent, numbers), interval]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _differing(about: str, rows: Table, expected: Table) -> Iterator[str]:
    for name in [*expected, *(name for name in rows if name not in expected)]:
        if rows.get(name) != expected.get(name):
            yield f"the page's table of {about} says {rows.get(name)} of {name}, not {expected.get(name)}"


def table(page: str, heading: str) -> Table:
    """Return the rows of the table whose first column has this heading, by first cell; empty if there is no table."""
    for found in re.findall(r"<table>(.*?)</table>", page, flags=re.DOTALL):
        head, *rows = re.findall(r"<tr[^>]*>(.*?)</tr>", found, flags=re.DOTALL)
        if head.split("<th>")[1:2] == [heading]:
            cells = [[cell.strip() for cell in row.split("<td>")[1:]] for row in rows]
            return {first: others for first, *others in cells}
    return {}
