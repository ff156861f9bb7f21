"""The command `acga status`, which prints how many tasks of each stage are done."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipeline import config as configs
from pipeline.commands import options
from pipeline.runs import plan, run


@options.command("status", "acga status configs/a2d.toml")
@options.config
def command(config: Path, overrides: tuple[str, ...], store: Path, as_json: bool) -> int:
    """Say which stages are done; exit 1 if any is not."""
    stages = plan.plan(run.prepare(configs.load(config, overrides), store, "Report"))
    done = {
        name: {"done": entry["reuse"], "missing": entry["run"], "evicted": entry["evicted"]}
        for name, entry in stages.items()
    }
    complete = not any(entry["missing"] for entry in done.values())
    if as_json:
        click.echo(json.dumps({"complete": complete, "stages": done}))
    else:
        for name, entry in done.items():
            evicted = f"  {entry['evicted']:4} evicted, not needed" if entry["evicted"] else ""
            click.echo(f"{name:15}  {entry['done']:4} done  {entry['missing']:4} missing{evicted}")
    return options.DONE if complete else options.NO
