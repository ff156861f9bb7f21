"""The command `acga why`, which prints for each task of one stage whether it would run, and why."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from pipeline import config as configs
from pipeline.commands import options
from pipeline.runs import plan, run


@options.command("why", "acga why TrainedModel a2d")
@options.stage
@options.config
def command(stage: str, config: Path, overrides: tuple[str, ...], store: Path, as_json: bool) -> int:
    """Say for each task of one STAGE whether it would run, and why."""
    roots = run.prepare(configs.load(config, overrides), store, "Report")
    found = [task for _, task in plan.planned(roots) if task.stage == stage]
    if as_json:
        click.echo(json.dumps({"stage": stage, "tasks": [dataclasses.asdict(task) for task in found]}))
        return options.DONE
    for task in found:
        state = "would run" if task.runs else "evicted, not needed" if task.evicted else "reused"
        click.echo(f"{task.stage} {task.label}".strip() + f": {state}")
        for reason in task.reasons:
            click.echo(f"  {reason}")
    if not found:
        click.echo(f"{stage} is no part of this experiment")
    return options.DONE
