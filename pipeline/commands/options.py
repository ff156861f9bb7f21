"""Options that several commands share, the decorators of commands, and the exit codes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from extractors.cores import usable_cores

DONE, NO = 0, 1
STAGES = (
    "Frames",
    "Flow",
    "Masks",
    "TextFeatures",
    "PretrainedTrunk",
    "VisualFeatures",
    "Imported",
    "Samples",
    "TrainedModel",
    "Predictions",
    "Metrics",
    "Report",
)
"""The names of `pipeline.graph.STAGES`, which is not imported here: it loads Luigi."""

Function = Callable[..., int]
PATH = click.Path(path_type=Path)
POSITIVE = click.IntRange(min=1)


class ConfigPath(click.Path):
    """The path of a TOML file or the name of a shipped experiment, which `pipeline.config` finds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path as it is given; "./a2d", which `Path` would shorten to a name, as an absolute path."""
        path = Path(value)
        return path.absolute() if os.sep in str(value) and os.sep not in str(path) and not path.suffix else path


CONFIG = ConfigPath()
config = click.argument("config", type=CONFIG, metavar="CONFIG")
configs = click.argument("configs", type=CONFIG, metavar="CONFIG...", nargs=-1, required=True)
stage = click.argument("stage", type=click.Choice(STAGES), metavar="STAGE")
until = click.option(
    "--until", type=click.Choice(STAGES), default="Report", show_default=True, metavar="STAGE", help="The last stage."
)


def workers(of: str = "Tasks") -> Callable[[Function], Function]:
    """Return the decorator that adds the option --workers; `of` names in its help text what is counted."""
    text = f"{of} at a time."
    return click.option("--workers", type=POSITIVE, default=usable_cores, show_default="cores", help=text)


devices = click.option(
    "--devices",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda:0,cuda:1",
    help="The devices of the tasks that compute with torch, one task each; auto: every GPU if compute.device is one.",
)


def command(name: str, example: str) -> Callable[[Function], click.Command]:
    """Return the decorator of a command that takes --set, --store and --json after its own options.

    The help text of the command ends with the example.
    """
    shared: list[click.Parameter] = [
        click.Option(
            ["--set", "overrides"], multiple=True, metavar="section.key=value", help="Override one key of the config."
        ),
        click.Option(
            ["--store"], type=PATH, default=Path("store"), show_default="./store", help="The folder of the artifacts."
        ),
        _as_json(),
    ]
    return _decorator(name, example, shared)


def document_command(name: str, example: str) -> Callable[[Function], click.Command]:
    """Return the decorator of a command without config and store, which takes only --json after its own options."""
    return _decorator(name, example, [_as_json()])


def _decorator(name: str, example: str, shared: list[click.Parameter]) -> Callable[[Function], click.Command]:
    def decorate(function: Function) -> click.Command:
        found: click.Command = click.command(name, epilog=f"Example: {example}")(function)
        found.params += shared
        return found

    return decorate


def _as_json() -> click.Option:
    return click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document on standard output.")


Document = dict[str, Any]
"""The type of the JSON document that --json prints."""
