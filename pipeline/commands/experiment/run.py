"""The command `acga run`, which runs every task whose artifact is missing and prints the scores."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipeline import config as configs
from pipeline.commands import options
from pipeline.commands.scores import print_scores
from pipeline.engine.stage import Stage
from pipeline.runs import run


@options.command("run", "acga run a2d --set training.epochs=12")
@options.config
@options.until
@options.workers("Tasks, beside those on GPUs,")
@options.devices
@click.option("--seeds", type=options.POSITIVE, metavar="N", help="Train N networks and report the spread of scores.")
@click.option("--verify", is_flag=True, help="Read everything first and build again what is damaged.")
@click.option("--scheduler", metavar="URL", help="A luigid that several hosts share; none is needed on one host.")
def command(
    config: Path,
    until: str,
    workers: int,
    devices: str,
    seeds: int | None,
    verify: bool,
    scheduler: str | None,
    overrides: tuple[str, ...],
    store: Path,
    as_json: bool,
) -> int:
    """Run every stage that is not there yet."""
    of_seeds = [] if seeds is None else [f"report.seeds={seeds}"]
    settings = configs.load(config, [*overrides, *of_seeds])
    if settings.visual.weights == "seeded":
        click.echo(
            "visual.weights = 'seeded': random weights, not trained on anything; scores say nothing about the method",
            err=True,
        )
    outcome = run.run(settings, store, until, workers, scheduler, verify, devices)
    document: options.Document = {
        "ok": True,
        "executed": outcome.executed,
        "reused": outcome.reused,
        "artifacts": outcome.artifacts,
        "metrics": _document(outcome.roots, "metrics.json").get("protocols", {}),
        "seeds": _document(outcome.roots, "seeds.json"),
        "report": _report(outcome.roots),
        "seconds": outcome.seconds,
        "peak_memory_mib": outcome.peak_memory_mib,
    }
    if as_json:
        click.echo(json.dumps(document))
        return options.DONE
    for stage in options.STAGES:
        executed, reused = outcome.executed.get(stage, 0), outcome.reused.get(stage, 0)
        if executed or reused:
            click.echo(f"{stage:15}  {executed:4} executed  {reused:4} reused")
    print_scores(document["metrics"])
    for protocol, found in document["seeds"].items():
        each = ", ".join(f"{value:.3f}" for value in found["each"])
        click.echo(f"{protocol:15}  over seeds: mean IoU {found['mean']:.3f} +- {found['deviation']:.3f}   ({each})")
    click.echo(f"{outcome.seconds:.1f} s, at most {outcome.peak_memory_mib} MiB")
    if document["report"]:
        click.echo(f"report: {document['report']}")
    return options.DONE


def _document(roots: list[Stage], name: str) -> options.Document:
    """Return the JSON document in a file of the first root's artifact, or an empty dict if it has no such file."""
    path = _published(roots, name)
    found: options.Document = json.loads(path.read_text(encoding="utf-8")) if path else {}
    return found


def _report(roots: list[Stage]) -> str | None:
    path = _published(roots, "report.html")
    return str(path.resolve()) if path else None


def _published(roots: list[Stage], name: str) -> Path | None:
    """Return the path of a file of the first root's artifact, or None if it has no such file."""
    artifact = roots[0].artifact()
    if artifact is None:
        return None
    path = artifact.files() / name
    return path if path.exists() else None
