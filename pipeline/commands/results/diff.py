"""The command `acga diff`, which names the first stage in which two sets of features differ."""

from __future__ import annotations

import json
from pathlib import Path

import click

from data.wording import counted
from pipeline import config
from pipeline.commands import options
from pipeline.engine.progress import Progress
from pipeline.experiments import shipped
from pipeline.operations import diff

MOST_PRINTED = 5


@options.command("diff", "acga diff ours/ theirs/")
@click.argument("a", type=options.CONFIG, metavar="A")
@click.argument("b", type=options.CONFIG, metavar="B")
@click.option("--clips", type=options.POSITIVE, default=3, show_default=True, help="Clips to replay.")
@click.option("--seed", type=int, default=0, show_default=True, help="The seed of the choice of clips.")
def command(a: Path, b: Path, clips: int, seed: int, overrides: tuple[str, ...], store: Path, as_json: bool) -> int:
    """Name the first stage in which two sets of features differ; exit 1 if they do.

    A and B are an artifact of VisualFeatures or Imported, a folder in the authors' layout, or a config for its raw
    videos.
    """
    sides = [config.load(path, overrides) if _is_config(path) else path for path in (a, b)]
    with Progress("diff") as progress:
        found = diff.diff(sides[0], sides[1], store, clips, seed, progress.update)
    code = options.DONE if found["verdict"] == "identical" else options.NO
    if as_json:
        click.echo(json.dumps(found))
        return code
    errors = sorted(found["samples"].items(), key=lambda sample: -(sample[1] or 0))
    differing = [(name, error) for name, error in errors if error != 0]
    replayed = f"{counted(len(found.get('clips', ())), 'clip')} replayed"
    click.echo(
        f"{counted(len(errors), 'clip')} compared, {counted(len(differing), 'differs', 'differ')}"
        if errors
        else replayed
    )
    for name, error in differing[:MOST_PRINTED]:
        click.echo(f"  {name}: " + ("other shape" if error is None else f"largest error {error:.2e}"))
    for key, (of_a, of_b) in found["settings"].items():
        click.echo(f"  config: {key} is {of_a!r} in A, {of_b!r} in B")
    click.echo(f"{found['verdict']}{': ' + found['stage'] if found['stage'] else ''}. {found['sentence']}")
    return code


def _is_config(path: Path) -> bool:
    """Return whether a side is a config: a TOML file, or the name of a shipped experiment and no folder."""
    return path.suffix == shipped.SUFFIX or (not path.exists() and str(path) in shipped.experiments())
