"""The command `acga init`, which writes a config of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipeline.commands import options
from pipeline.config import ConfigError
from pipeline.operations import own_config


@options.document_command("init", "acga init my.toml --from a2d")
@click.argument("file", type=options.PATH, metavar="FILE")
@click.option("--from", "name", required=True, metavar="NAME", help="The shipped experiment that it extends.")
@click.option(
    "--data", type=options.PATH, metavar="DIR", help="A data set of one's own, to which --from folder is fitted."
)
def command(file: Path, name: str, data: Path | None, as_json: bool) -> int:
    """Write FILE, a config that extends a shipped experiment and has the keys to fill in, each with what to give."""
    text = own_config.template(name, file, data)
    if file.suffix != ".toml":
        raise ConfigError(f"{file}: a config is a TOML file; give a name that ends in .toml")
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{file} exists and is not overwritten; give the name of a new file") from error
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be written ({error.strerror}); give a file in a folder that exists"
        ) from error
    click.echo(json.dumps({"config": str(file), "extends": name}) if as_json else f"{file}: fill in its keys, then")
    if not as_json:
        click.echo(f"  acga plan {file}")
    return options.DONE
