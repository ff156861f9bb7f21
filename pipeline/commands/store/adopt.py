"""The command `acga adopt`, which keeps old artifacts valid after a change of code if a rebuilt sample is equal."""

from __future__ import annotations

import json
from pathlib import Path

import click

from data.wording import counted
from pipeline import config as configs
from pipeline.commands import options
from pipeline.operations import adoption


@options.command("adopt", "acga adopt VisualFeatures a2d --sample 3")
@options.stage
@options.config
@click.option("--sample", type=options.POSITIVE, default=3, show_default=True, help="Tasks to build anew and compare.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sample.")
@options.workers()
@click.option("--revoke", is_flag=True, help="Undo earlier adoptions of this stage instead.")
def command(
    stage: str,
    config: Path,
    sample: int,
    seed: int,
    workers: int,
    revoke: bool,
    overrides: tuple[str, ...],
    store: Path,
    as_json: bool,
) -> int:
    """After a change of code, let old artifacts of a stage stand if a sample comes out equal; exit 1 if not."""
    settings = configs.load(config, overrides)
    if revoke:
        labels = adoption.revoke(settings, store, stage)
        click.echo(
            json.dumps({"revoked": labels}) if as_json else f"{counted(len(labels), 'artifact')} of {stage} revoked"
        )
        return options.DONE
    found = adoption.adopt(settings, store, stage, sample, seed, workers)
    equal = found.difference is None
    if as_json:
        lists = {"compared": found.compared, "adopted": found.adopted}
        click.echo(json.dumps({"stage": stage, "equal": equal, "difference": found.difference, **lists}))
    elif equal:
        click.echo(f"{stage}: {len(found.compared)} built anew and equal, {len(found.adopted)} adopted")
    else:
        click.echo(f"nothing adopted: the changed code gives other results. {found.difference}")
    return options.DONE if equal else options.NO
