"""The command `acga export`, which writes the samples in the layout of the authors' code."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from data.wording import counted
from pipeline import config as configs
from pipeline.commands import options
from pipeline.engine.progress import Progress
from pipeline.operations import exchange


@options.command("export", "acga export a2d --to DIR")
@options.config
@click.option("--to", type=options.PATH, required=True, metavar="DIR", help="New, empty, or an unfinished export.")
@options.workers()
def command(config: Path, to: Path, workers: int, overrides: tuple[str, ...], store: Path, as_json: bool) -> int:
    """Write the samples in the layout of the authors' code."""
    settings = configs.load(config, overrides)
    with Progress("export") as progress:
        done = exchange.export(settings, store, to, workers, progress.update)
    if as_json:
        click.echo(json.dumps({"to": str(to), **asdict(done)}))
        return options.DONE
    rows = ", ".join(counted(count, f"{role} sample") for role, count in done.samples.items())
    click.echo(f"{to}: {rows} of {counted(done.bytes_per_row, 'byte')}; {done.written} written now")
    return options.DONE
