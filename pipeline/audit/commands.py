"""What `acga audit` prints and writes."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from pipeline import config
from pipeline.audit import bundle, certificate, page, rederivation
from pipeline.audit.audit import Audit, Request, audit
from pipeline.audit.verdicts import PASS, WAIVED, first_failing
from pipeline.commands import DONE, NO

MOST_PRINTED = 8


def do_audit(options: argparse.Namespace) -> int:
    """Check everything behind a config's report; exit 1 on FAIL, with --strict on all but PASS and WAIVED."""
    settings = config.load(options.config, options.set)
    request = Request(
        rebuild=rederivation.share(options.rebuild),
        full=options.full,
        steps=options.steps,
        seed=options.seed,
        workers=options.workers,
        waived=dict(_waiver(text) for text in options.waive),
        theirs=certificate.load(options.compare) if options.compare else None,
    )
    if options.bundle and options.bundle.exists():
        raise config.ConfigError(f"--bundle {options.bundle} exists; give a folder that does not")
    found = audit(settings, options.store, request)
    command = shlex.join(["acga", *sys.argv[1:]])
    folder = options.to or options.store / "audit"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(page.document(found), encoding="utf-8")
    (folder / "audit.html").write_text(page.page(found, command), encoding="utf-8")
    if options.certificate:
        _write_certificate(found, options.certificate)
    if options.bundle:
        bundle.write(found, options.bundle, command)
    if options.json:
        print(page.document(found))
    else:
        _print(found, folder)
    bad = any(each.verdict not in (PASS, WAIVED) for each in found.checks) if options.strict else found.failed
    return NO if bad else DONE


def _waiver(text: str) -> tuple[str, str]:
    letter, equals, reason = text.partition("=")
    if not equals or not reason.strip():
        raise config.ConfigError(f"--waive {text}: expected CHECK=REASON, such as C='another processor'")
    return letter.strip().upper(), reason.strip()


def _write_certificate(found: Audit, path: Path) -> None:
    if found.certificate is None:
        raise config.ConfigError("there is no certificate: manifests or files are damaged; see the findings")
    path.write_text(json.dumps(found.certificate), encoding="utf-8")


def _print(found: Audit, folder: Path) -> None:
    for each in first_failing(found.checks):
        print(f"{each.letter} {each.name:22} {each.verdict}")
        for text in each.findings[:MOST_PRINTED]:
            print(f"    {text}")
        if len(each.findings) > MOST_PRINTED:
            print(f"    and {len(each.findings) - MOST_PRINTED} more")
        for text in each.unchecked[:MOST_PRINTED]:
            print(f"    not checked: {text}")
    if found.certificate is not None:
        print(f"certificate {found.certificate['root']}")
    print(f"{found.verdict} in {found.seconds} s; {folder / 'audit.html'}")
