"""The command `acga audit`, which checks everything behind a report and writes the findings."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import click

from pipeline import config as configs
from pipeline.audit import bundle, certificate, page
from pipeline.audit.audit import Audit, Request, audit
from pipeline.audit.checks.rederivation import share
from pipeline.audit.verdicts import PASS, WAIVED, first_failing
from pipeline.commands import options

MOST_PRINTED = 8


@options.command("audit", "acga audit a2d --rebuild 1")
@options.config
@click.option("--rebuild", default="0", show_default=True, metavar="N|P%|all", help="Tasks a stage to build again.")
@click.option("--full", is_flag=True, help="Build everything again in a second store.")
@click.option("--steps", type=int, default=8, show_default=True, help="Training steps to replay; 0: all.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sample that is built again.")
@options.workers("Tasks of --full")
@click.option("--strict", is_flag=True, help="Exit 1 on anything but PASS and WAIVED.")
@click.option("--waive", multiple=True, metavar="CHECK=REASON", help="Accept a check's verdict.")
@click.option("--certificate", "certificate_path", type=options.PATH, metavar="OUT.json", help="Write the certificate.")
@click.option("--compare", type=options.PATH, metavar="THEIRS.json", help="Name where another certificate parts.")
@click.option("--bundle", "bundle_folder", type=options.PATH, metavar="DIR", help="Write the evidence as an RO-Crate.")
@click.option(
    "--to", type=options.PATH, show_default="<store>/audit", metavar="DIR", help="Folder of audit.html and audit.json."
)
def command(
    config: Path,
    rebuild: str,
    full: bool,
    steps: int,
    seed: int,
    workers: int,
    strict: bool,
    waive: tuple[str, ...],
    certificate_path: Path | None,
    compare: Path | None,
    bundle_folder: Path | None,
    to: Path | None,
    overrides: tuple[str, ...],
    store: Path,
    as_json: bool,
) -> int:
    """Check everything behind a report: inputs, code, environment, manifests, files, results; exit 1 on FAIL."""
    settings = configs.load(config, overrides)
    request = Request(
        rebuild=share(rebuild),
        full=full,
        steps=steps,
        seed=seed,
        workers=workers,
        waived=dict(_waiver(text) for text in waive),
        theirs=certificate.load(compare) if compare else None,
    )
    if bundle_folder and bundle_folder.exists():
        raise configs.ConfigError(f"--bundle {bundle_folder} exists; give a folder that does not")
    found = audit(settings, store, request)
    command_line = shlex.join(["acga", *sys.argv[1:]])
    folder = to or store / "audit"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(page.document(found), encoding="utf-8")
    (folder / "audit.html").write_text(page.page(found, command_line), encoding="utf-8")
    if certificate_path:
        _write_certificate(found, certificate_path)
    if bundle_folder:
        bundle.write(found, bundle_folder, command_line)
    if as_json:
        click.echo(page.document(found))
    else:
        _print(found, folder)
    bad = any(each.verdict not in (PASS, WAIVED) for each in found.checks) if strict else found.failed
    return options.NO if bad else options.DONE


def _waiver(text: str) -> tuple[str, str]:
    """Return the letter of a check and the reason from CHECK=REASON. Raises ConfigError."""
    letter, equals, reason = text.partition("=")
    if not equals or not reason.strip():
        raise configs.ConfigError(f"--waive {text}: expected CHECK=REASON, such as C='another processor'")
    return letter.strip().upper(), reason.strip()


def _write_certificate(found: Audit, path: Path) -> None:
    if found.certificate is None:
        raise configs.ConfigError("there is no certificate: manifests or files are damaged; see the findings")
    path.write_text(json.dumps(found.certificate), encoding="utf-8")


def _print(found: Audit, folder: Path) -> None:
    for each in first_failing(found.checks):
        click.echo(f"{each.letter} {each.name:22} {each.verdict}")
        for text in each.findings[:MOST_PRINTED]:
            click.echo(f"    {text}")
        if len(each.findings) > MOST_PRINTED:
            click.echo(f"    and {len(each.findings) - MOST_PRINTED} more")
        for text in each.unchecked[:MOST_PRINTED]:
            click.echo(f"    not checked: {text}")
    if found.certificate is not None:
        click.echo(f"certificate {found.certificate['root']}")
    click.echo(f"{found.verdict} in {found.seconds} s; {folder / 'audit.html'}")
