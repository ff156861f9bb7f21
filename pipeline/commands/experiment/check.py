"""The command `acga check`, which reports the defects of a data set or draws a contact sheet of one video."""

from __future__ import annotations

import json
from pathlib import Path

import click

from data.defects import RULES
from data.wording import counted
from pipeline import config as configs
from pipeline.commands import options
from pipeline.config import Config, ConfigError
from pipeline.engine import catalogue
from pipeline.operations import check
from pipeline.runs import run

SHOWN = 50  # errors


@options.command("check", "acga check a2d --sheet sheet.png --video T6bNPuKV-wY")
@options.config
@click.option("--fast", is_flag=True, help="Do not decode the videos.")
@options.workers("Videos")
@click.option("--sheet", type=options.PATH, metavar="OUT.png", help="Write the frames and masks of one video instead.")
@click.option("--video", metavar="ID", help="The video of --sheet.")
def command(
    config: Path,
    fast: bool,
    workers: int,
    sheet: Path | None,
    video: str | None,
    overrides: tuple[str, ...],
    store: Path,
    as_json: bool,
) -> int:
    """Check that the data set is whole; exit 1 if it is not."""
    settings = configs.load(config, overrides)
    if bool(sheet) != bool(video):
        raise ConfigError("--sheet OUT.png and --video ID go together; give both or none")
    roots = run.folders(settings, store)
    if sheet and video:
        _write_sheet(settings, roots, config, sheet, video)
        click.echo(json.dumps({"sheet": str(sheet)}) if as_json else sheet)
        return options.DONE
    found = check.check(settings, roots, fast, workers)
    if as_json:
        document = {"videos": found.videos, "samples": found.samples, "errors": list(found.errors)}
        document |= {"recognised": list(found.said)}
        click.echo(json.dumps({"ok": not found.errors, **document, "rules": found.rules}))
        return options.NO if found.errors else options.DONE
    undecoded = ", videos not decoded (--fast)" if fast else ""
    click.echo(f"{counted(found.videos, 'video')}, {counted(found.samples, 'sample')}{undecoded}")
    for line in found.said:
        click.echo(line)
    for rule, hits in found.rules.items():
        click.echo(f"{rule:22} {hits:6}  {RULES[rule].detects}: {RULES[rule].done}")
    count = len(found.errors)
    for error in found.errors[:SHOWN]:
        click.echo(f"error: {error}")
    if count > SHOWN:
        click.echo(f"and {counted(count - SHOWN, 'error')} more; --json has all of them")
    click.echo(counted(count, "error") if count else "no errors")
    return options.NO if found.errors else options.DONE


def _write_sheet(settings: Config, roots: dict[str, Path], config: Path, sheet: Path, wanted: str) -> None:
    """Write the contact sheet of the video with id `wanted`. Raises ConfigError if no role has this video."""
    from pipeline.pages import contact_sheet  # imported here because it loads OpenCV

    for name in roots:
        section = settings.datasets[name]
        for split in sorted({role.split for role in settings.sets.values() if role.dataset == name}):
            for video in catalogue.listing(section, roots[name], split).videos:
                if video.id == wanted:
                    last = check.last_frame(section.kind, video)
                    frames = settings.frames
                    contact_sheet.write(sheet, section.kind, video, last, frames.length, frames.limit_seconds)
                    return
    raise ConfigError(f"--video {wanted}: no such video in the sets of {config}; see `acga check`")
