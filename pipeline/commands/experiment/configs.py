"""The command `acga configs`, which lists the shipped experiments."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from pipeline.commands import options
from pipeline.experiments import shipped


@options.document_command("configs", "acga configs")
def command(as_json: bool) -> int:
    """List the shipped experiments: what each claims, what it costs and the data that it needs."""
    found = {name: (path, shipped.header(path)) for name, path in shipped.experiments().items()}
    if as_json:
        rows = [{"name": name, "path": str(path), **asdict(header)} for name, (path, header) in found.items()]
        click.echo(json.dumps({"configs": rows}))
        return options.DONE
    for name, (_, header) in found.items():
        click.echo(f"{name}: {header.claim}")
        for label, text in asdict(header).items():
            if label != "claim" and text:
                click.echo(f"    {label}: {text}")
    return options.DONE
