"""The command `acga score`, which prints the scores of given masks."""

from __future__ import annotations

import json
from pathlib import Path

import click

from data.wording import counted
from pipeline.commands import options
from pipeline.commands.scores import print_scores


@options.document_command("score", "acga score --truth truth.json --predictions predictions.json")
@click.option(
    "--truth", type=options.PATH, required=True, metavar="GT.json", help="Images, and one annotation for each."
)
@click.option("--predictions", type=options.PATH, required=True, metavar="PRED.json", help="A list of results.")
def command(truth: Path, predictions: Path, as_json: bool) -> int:
    """Score given masks in COCO's formats under both protocols."""
    from pipeline.operations import score  # imported here because it loads torch

    document = score.score(truth, predictions)
    if as_json:
        click.echo(json.dumps(document))
        return options.DONE
    print_scores(document["protocols"])
    if absent := document["without_prediction"]:
        words = counted(absent, "image has no prediction and counts", "images have no prediction and count")
        click.echo(f"{words} as predicted empty")
    return options.DONE
