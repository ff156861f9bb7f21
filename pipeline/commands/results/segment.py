"""The command `acga segment`, which writes the masks of the actors that sentences describe in a video."""

from __future__ import annotations

import json
from pathlib import Path

import click

from data.wording import counted
from pipeline import config as configs
from pipeline.commands import options
from pipeline.engine.progress import Progress


@options.command("segment", "acga segment dog.mp4 --query 'the dog on the right' --to masks")
@click.argument("video", type=options.PATH, metavar="VIDEO")
@click.option("--query", "queries", multiple=True, required=True, metavar="TEXT", help="A sentence; may be repeated.")
@click.option("--to", type=options.PATH, required=True, metavar="DIR", help="A folder that does not exist yet.")
@click.option(
    "--frame", "frames", type=options.POSITIVE, multiple=True, metavar="N", help="Counted from 1; may be repeated."
)
@click.option("--every", type=options.POSITIVE, default=8, show_default=True, metavar="N", help="Or every Nth frame.")
@click.option(
    "--config",
    type=options.CONFIG,
    default="miniature",
    show_default="miniature, the demo",
    help="The experiment whose network is used.",
)
@click.option("--model", type=options.PATH, metavar="FILE", help="Weights, if not those of the config in the store.")
def command(
    video: Path,
    queries: tuple[str, ...],
    to: Path,
    frames: tuple[int, ...],
    every: int,
    config: Path,
    model: Path | None,
    overrides: tuple[str, ...],
    store: Path,
    as_json: bool,
) -> int:
    """Segment the actors that sentences describe in any VIDEO (a file or a folder of PNG frames)."""
    from pipeline.operations import segment  # imported here because it loads torch

    settings = configs.load(config, overrides)
    if "seeded" in (settings.visual.weights, settings.visual.flow_weights)[: len(settings.streams)]:
        click.echo("the trunk has random weights (visual.weights = 'seeded'): these masks mean nothing", err=True)
    request = segment.Request(video, queries, to, frames, every, model)
    with Progress("segment") as progress:
        found = segment.segment(settings, store, request, progress.update)
    if as_json:
        click.echo(json.dumps({"to": str(to), **found}))
        return options.DONE
    for query in queries:
        of_query = [entry for entry in found["masks"] if entry["query"] == query]
        seen = [entry["confidence"] for entry in of_query if entry["confidence"] > 0]
        confidence = f", mean confidence {sum(seen) / len(seen):.2f}" if seen else ""
        click.echo(f"{query}: seen in {len(seen)} of {counted(len(of_query), 'frame')}{confidence}")
    if found["words_without_vector"]:
        click.echo(f"words without a vector: {', '.join(found['words_without_vector'])}")
    click.echo(f"masks, masks.json and overview.png: {to}")
    return options.DONE
