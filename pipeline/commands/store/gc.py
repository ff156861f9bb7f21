"""The command `acga gc`, which lists, deletes, evicts or pins artifacts of the store."""

from __future__ import annotations

import json
from pathlib import Path

import click

from data.wording import counted
from pipeline import config as config_file
from pipeline.commands import options
from pipeline.operations import garbage


@options.command("gc", "acga gc a2d jhmdb --delete")
@options.configs
@click.option("--delete", is_flag=True, help="Delete it.")
@click.option(
    "--evict", type=click.Choice(options.STAGES), multiple=True, metavar="STAGE", help="Drop the files of a stage."
)
@click.option("--pin", is_flag=True, help="Keep what the configs reach, whatever is given later.")
@click.option("--unpin", is_flag=True, help="Undo --pin.")
def command(
    configs: tuple[Path, ...],
    delete: bool,
    evict: tuple[str, ...],
    pin: bool,
    unpin: bool,
    overrides: tuple[str, ...],
    store: Path,
    as_json: bool,
) -> int:
    """List what no given config reaches and what killed runs left; delete nothing unless asked to."""
    if sum(map(bool, (delete, evict, pin, unpin))) > 1:
        raise click.UsageError("--delete, --evict, --pin and --unpin exclude each other; give one of them")
    settings = [config_file.load(path, overrides) for path in configs]
    if pin or unpin:
        count = garbage.pin(settings, store, pin)
        click.echo(json.dumps({"pinned" if pin else "unpinned": count}) if as_json else counted(count, "artifact"))
        return options.DONE
    found = garbage.collect(settings, store, delete, evict)
    if as_json:
        click.echo(json.dumps({"deleted": delete, "stages": _document(found)}))
    else:
        _print(found, delete)
    return options.DONE


def _document(found: garbage.Collected) -> options.Document:
    return {
        stage: {kind: {"folders": each.folders, "bytes": each.bytes} for kind, each in kinds.items()}
        for stage, kinds in found.items()
    }


def _counted(count: int, kind: str) -> str:
    return counted(count, "attempt") if kind == "attempts" else f"{count} {kind}"


def _print(found: garbage.Collected, deleted: bool) -> None:
    for stage, kinds in found.items():
        counts = [f"{_counted(len(each.folders), kind)} ({each.bytes / 2**20:.1f} MiB)" for kind, each in kinds.items()]
        click.echo(f"{stage:15}  {', '.join(counts)}")
    unneeded = [kinds[kind] for kinds in found.values() for kind in garbage.GARBAGE if kind in kinds]
    total = sum(each.bytes for each in unneeded) / 2**20
    if deleted:
        click.echo(f"deleted: {total:.1f} MiB")
    elif unneeded:
        click.echo(f"garbage: {total:.1f} MiB in unreached and attempts; --delete deletes it")
    else:
        click.echo("no garbage")
