"""The command `acga`, which lists its subcommands; each of them is a module below `pipeline.commands`.

The module of a subcommand is imported when the subcommand is called, so that `acga --help` imports none of them.

Exit codes: 0 done, 1 the answer is no, 2 usage or config, 3 a stage failed, 130 interrupted, 143 terminated. With
--json, one JSON document is written to standard output, and everything else to standard error.
"""

from __future__ import annotations

if __name__ == "__main__":  # python -m pipeline.cli; the command itself begins in pipeline.entry
    from pipeline import interrupts

    interrupts.answer()  # before the imports below, which take a moment

import importlib
import sys
from collections.abc import Sequence

import click

DONE, NO, USAGE, FAILED = 0, 1, 2, 3
FIRST_PARTY = ("data", "extractors", "models", "pipeline")

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Experiments of one's own": {
        "configs": ("experiment.configs", "List the shipped experiments: claim, cost and the data that each needs."),
        "init": ("experiment.init", "Write a config of one's own, which names what to fill in."),
        "config": ("experiment.config", "Print all values of a config and where each comes from."),
    },
    "An experiment": {
        "run": ("experiment.run", "Run every stage that is not there yet."),
        "plan": ("experiment.plan", "Say what would run, and why; run nothing."),
        "why": ("experiment.why", "Say for each task of one stage whether it would run, and why."),
        "status": ("experiment.status", "Say which stages are done; exit 1 if any is not."),
        "check": ("experiment.check", "Check that the data set is whole; exit 1 if it is not."),
        "miniature": ("experiment.miniature", "Write the generated data set."),
    },
    "Its results": {
        "segment": ("results.segment", "Segment the actors that sentences describe in any video."),
        "compare": ("results.compare", "Put the scores of several experiments side by side."),
        "score": ("results.score", "Score given masks in COCO's formats under both protocols."),
        "diff": ("results.diff", "Name the first stage in which two sets of features differ."),
    },
    "The store": {
        "audit": ("store.audit", "Check everything behind a report; exit 1 on FAIL."),
        "gc": ("store.gc", "List what no config reaches and what killed runs left."),
        "adopt": ("store.adopt", "After a change of code, let old artifacts stand if a sample comes out equal."),
        "export": ("store.export_features", "Write the samples in the layout of the authors' code."),
        "import": ("store.import_features", "Take a folder in the layout of the authors' code as features."),
    },
}
"""Section of `acga --help` -> command -> (module below `pipeline.commands`, its one-line help)."""


class LazyGroup(click.Group):
    """A click group that imports the module of a command when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for section in COMMANDS.values():
            if cmd_name in section:
                module = importlib.import_module(f"pipeline.commands.{section[cmd_name][0]}")
                command: click.Command = module.command
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, commands in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Example: acga run miniature. Each command has --help with an example of its own.",
)
def acga() -> None:
    """From raw videos and sentences to masks, every stage cached."""
    from pipeline.engine.logs import configure_logging  # imported here so that `acga --help` does not load it

    configure_logging()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Raises any error that is not meant for users."""
    try:
        code: int = acga.main(arguments, prog_name="acga", standalone_mode=False)
        return code or DONE
    except click.UsageError as error:
        error.show()
        return USAGE
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> int:
    """Print an error that is meant for users and return its exit code; raise any other error, which is a bug."""
    from pipeline.runs.building import StageFailed
    from pipeline.store import disk_errors
    from pipeline.store.artifact import StoreError

    if isinstance(error, StageFailed | StoreError):
        return _refuse(error, FAILED)
    if (trouble := disk_errors.message_of(error)) is not None:
        return _refuse(trouble, FAILED)
    if (unusable := disk_errors.unusable_path(error)) is not None:
        return _refuse(unusable, USAGE)
    if type(error).__module__.partition(".")[0] not in FIRST_PARTY:
        raise error
    for finding in getattr(error, "findings", (error,)):
        _refuse(finding, USAGE)
    return USAGE


def _refuse(error: object, code: int) -> int:
    click.echo(f"acga: {' '.join(str(error).split())}", err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
