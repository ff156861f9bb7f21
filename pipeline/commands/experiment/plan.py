"""The command `acga plan`, which prints the tasks that would run, the reasons, and the estimated cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from data.wording import counted
from pipeline import config as configs
from pipeline.commands import options
from pipeline.runs import plan, run
from pipeline.runs.estimate import Estimate, estimate
from pipeline.runs.overview import duration
from pipeline.store import slots


@options.command("plan", "acga plan a2d --workers 16 --devices cuda:0,cuda:1 --hosts 4")
@options.config
@options.until
@options.workers("Tasks, beside those on GPUs,")
@options.devices
@click.option("--hosts", type=options.POSITIVE, default=1, show_default=True, help="Hosts that share the work.")
def command(
    config: Path,
    until: str,
    workers: int,
    devices: str,
    hosts: int,
    overrides: tuple[str, ...],
    store: Path,
    as_json: bool,
) -> int:
    """Say what would run, why, and how long it may take on such hosts; run nothing."""
    settings = configs.load(config, overrides)
    found = plan.planned(run.prepare(settings, store, until))
    stages = plan.summary(found)
    count = len(devices.split(",")) if devices not in ("auto", "cpu") else _slots(settings)
    cost = estimate(found, workers * hosts, count * hosts, settings.compute.device != "cpu")
    if as_json:
        click.echo(json.dumps({"stages": stages, "estimate": asdict(cost)}))
        return options.DONE
    for stage, entry in stages.items():
        bound = f" (at most: {entry['unless_equal']} only if inputs change)" if entry["unless_equal"] else ""
        evicted = f"  {entry['evicted']:4} evicted, not needed" if entry["evicted"] else ""
        click.echo(f"{stage:15}  {entry['run']:4} would run  {entry['reuse']:4} reused{evicted}{bound}{_cost(entry)}")
        for reason in entry["reasons"]:
            click.echo(f"{'':17}{reason}")
    if any(entry["run"] for entry in stages.values()):
        click.echo(_in_all(cost, workers * hosts, count * hosts))
    return options.DONE


def _slots(settings: configs.Config) -> int:
    """Return the slots of this host, or 1 if it has no GPU and the config asks for one: another host will run it."""
    try:
        return len(slots.find("auto", settings.compute.device, settings.compute.threads))
    except slots.ImpossibleDevices:
        return 1


def _in_all(cost: Estimate, workers: int, count: int) -> str:
    """Return the estimate of the whole plan as one line."""
    known = f"about {duration(cost.seconds)} and {cost.bytes / 2**30:.1f} GiB" if cost.bottleneck else "no estimate"
    bound = f"; {cost.bottleneck} takes longest" if cost.bottleneck else ""
    missing = f"; not counted, never measured here: {', '.join(cost.unknown)}" if cost.unknown else ""
    return f"with {workers} light and {counted(count, 'heavy task')} at a time: {known}{bound}{missing}"


def _cost(entry: Mapping[str, Any]) -> str:
    """Return the estimated cost of a stage as text, or an empty string if earlier runs give no estimate."""
    parts = [counted(round(entry["videos"]), "video")] if entry["videos"] is not None else []
    if entry["seconds"] is not None:
        parts += [f"about {entry['seconds']:.0f} s", f"{entry['bytes'] / 2**20:.1f} MiB"]
    return f"  [{', '.join(parts)}]" if parts else ""
