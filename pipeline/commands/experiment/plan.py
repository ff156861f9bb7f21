"""The command `acga plan`, which prints the tasks that would run, the reasons, and the estimated cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipeline import config as configs
from pipeline.commands import options
from pipeline.runs import plan, run


@options.command("plan", "acga plan configs/a2d.toml")
@options.config
@options.until
def command(config: Path, until: str, overrides: tuple[str, ...], store: Path, as_json: bool) -> int:
    """Say what would run, and why; run nothing."""
    stages = plan.plan(run.prepare(configs.load(config, overrides), store, until))
    if as_json:
        click.echo(json.dumps({"stages": stages}))
        return options.DONE
    for stage, entry in stages.items():
        bound = f" (at most: {entry['unless_equal']} only if inputs change)" if entry["unless_equal"] else ""
        evicted = f"  {entry['evicted']:4} evicted, not needed" if entry["evicted"] else ""
        click.echo(f"{stage:15}  {entry['run']:4} would run  {entry['reuse']:4} reused{evicted}{bound}{_cost(entry)}")
        for reason in entry["reasons"]:
            click.echo(f"{'':17}{reason}")
    return options.DONE


def _cost(entry: Mapping[str, Any]) -> str:
    """Return the estimated cost of a stage as text, or an empty string if earlier runs give no estimate."""
    parts = [f"{entry['videos']:.0f} videos"] if entry["videos"] is not None else []
    if entry["seconds"] is not None:
        parts += [f"about {entry['seconds']:.0f} s", f"{entry['bytes'] / 2**20:.1f} MiB"]
    return f"  [{', '.join(parts)}]" if parts else ""
