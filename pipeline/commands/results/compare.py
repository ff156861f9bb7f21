"""The command `acga compare`, which prints the scores of several experiments side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipeline import config
from pipeline.commands import options
from pipeline.commands.scores import score_line


@options.command("compare", "acga compare ablation_fcn a2d")
@options.configs
def command(configs: tuple[Path, ...], overrides: tuple[str, ...], store: Path, as_json: bool) -> int:
    """Put the scores of several experiments side by side, with paired intervals of the differences to the first."""
    from pipeline.operations import compare  # imported here because it loads numpy

    found = compare.compare({str(path): config.load(path, overrides) for path in configs}, store)
    if as_json:
        click.echo(json.dumps(found))
        return options.DONE
    for protocol, rows in found["protocols"].items():
        click.echo(protocol)
        for name, row in rows.items():
            click.echo(f"  {name:32}  {score_line(row['scores'])}{_difference(row)}")
    if any(_difference(row) for row in found["protocols"].get("acga", {}).values()):
        click.echo("last column: mean IoU against the first, with the 95 % interval over videos (the same for both)")
    for text in found["not_compared"]:
        click.echo(text)
    return options.DONE


def _difference(row: Mapping[str, Any]) -> str:
    """Return the difference to the first experiment and its interval as text, or an empty string if there is none."""
    if row["difference"] is None:
        return ""
    low, high = row["interval"]
    return f"   {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
