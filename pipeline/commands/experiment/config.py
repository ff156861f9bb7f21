"""The command `acga config`, which prints all values of a config and where each comes from."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipeline import config as configs
from pipeline.commands import options
from pipeline.operations import own_config


@options.command("config", "acga config my.toml --set training.epochs=12")
@options.config
def command(config: Path, overrides: tuple[str, ...], store: Path, as_json: bool) -> int:
    """Print all values of a config as TOML, and for each the file or the --set that it comes from."""
    values, origins = own_config.resolved(*configs.read(config, overrides))
    click.echo(json.dumps({"config": values, "from": origins}) if as_json else own_config.toml(values, origins))
    return options.DONE
