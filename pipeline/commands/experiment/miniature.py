"""The command `acga miniature`, which writes the generated data set."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipeline import config as configs
from pipeline.commands import options
from pipeline.config import ConfigError
from pipeline.engine import miniature


@options.command("miniature", "acga miniature tiny --to tiny")
@options.config
@click.option("--to", type=options.PATH, required=True, metavar="DIR", help="A folder that does not exist yet.")
def command(config: Path, to: Path, overrides: tuple[str, ...], store: Path, as_json: bool) -> int:
    """Write the generated data set."""
    settings = configs.load(config, overrides)
    if settings.miniature is None:
        raise ConfigError(f"config {config} has no section [miniature]")
    if to.exists():
        raise ConfigError(f"--to {to} exists; give a folder that does not")
    miniature.write(settings.miniature, to)
    if as_json:
        click.echo(json.dumps({"root": str(to)}))
    return options.DONE
