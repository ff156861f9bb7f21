"""The command `acga import`, which imports a folder in the layout of the authors' code as features."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipeline.commands import options
from pipeline.operations import exchange


@options.command("import", "acga import ACGA/dataset/A2D")
@click.argument("folder", type=options.PATH, metavar="DIR")
@click.option(
    "--config",
    type=options.CONFIG,
    default="reference",
    show_default=True,
    help="The experiment that the features are for.",
)
@options.workers()
def command(folder: Path, config: Path, workers: int, overrides: tuple[str, ...], store: Path, as_json: bool) -> int:
    """Take a folder in the layout of the authors' code as the features of a run.

    DIR holds train.txt, test.txt and the HDF5 files.
    """
    outcome = exchange.load_folder(folder, store, config, overrides, workers)
    folders = outcome.artifacts["Imported"]
    if as_json:
        click.echo(json.dumps({"folders": folders, "executed": outcome.executed, "reused": outcome.reused}))
        return options.DONE
    for place in folders:
        click.echo(place)
    click.echo("sentences, video ids, frames and the masks as drawn are not in such a folder; go on with")
    click.echo(f"  acga run {config} --set dataset.root={folder} --store {store}")
    return options.DONE
