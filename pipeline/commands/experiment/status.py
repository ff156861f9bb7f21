"""The command `acga status`, which prints how many tasks of each stage are done, and which host runs the others."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from pipeline import config as configs
from pipeline.commands import options
from pipeline.runs import building, plan, run
from pipeline.runs.overview import Overview, overview

SECONDS_BETWEEN_LOOKS = 2.0


@options.command("status", "acga status a2d --watch")
@options.config
@click.option("--watch", is_flag=True, help="Show the progress on all hosts until everything is done.")
def command(config: Path, watch: bool, overrides: tuple[str, ...], store: Path, as_json: bool) -> int:
    """Say which stages are done, and what runs where; exit 1 if any is not done."""
    roots = run.prepare(configs.load(config, overrides), store, "Report")
    tasks = building.all_tasks(roots)
    found = overview(tasks, plan.needed(roots))
    while watch and not found.complete:
        click.echo(found.line, err=True)
        time.sleep(SECONDS_BETWEEN_LOOKS)
        found = overview(tasks, plan.needed(roots))
    if as_json:
        stages = {name: asdict(stage) for name, stage in found.stages.items()}
        rates = {"videos_per_second": found.videos_per_second, "seconds_left": found.seconds_left}
        click.echo(json.dumps({"complete": found.complete, "stages": stages, **rates}))
    else:
        _print(found)
    return options.DONE if found.complete else options.NO


def _print(found: Overview) -> None:
    for name, stage in found.stages.items():
        evicted = f"  {stage.evicted:4} evicted, not needed" if stage.evicted else ""
        running = f"  {len(stage.running)} running ({', '.join(stage.running)})" if stage.running else ""
        click.echo(f"{name:15}  {stage.done:4} done  {stage.missing:4} missing{running}{evicted}")
    if not found.complete:
        click.echo(found.line)
