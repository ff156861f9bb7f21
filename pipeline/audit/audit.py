"""The audit, which runs all checks on the artifacts behind a report and changes nothing in the store."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import interrupts
from pipeline.audit.certificate import Certificate, certificate, compare
from pipeline.audit.checks import inputs, rederivation, results, structure
from pipeline.audit.subject import Subject, subject
from pipeline.audit.verdicts import CHECKS, DRIFT, FAIL, INCONCLUSIVE, PASS, WAIVED, Check, check, worst
from pipeline.config import Config, ConfigError
from pipeline.engine.key import read_afresh
from pipeline.engine.progress import Progress
from pipeline.runs import run


@dataclass(frozen=True)
class Request:
    """The options of an audit: the share to rebuild, the training steps to replay, waivers (check letter -> reason)."""

    rebuild: str = "0"
    full: bool = False
    steps: int = 8
    seed: int = 0
    workers: int = 1
    waived: Mapping[str, str] = field(default_factory=dict)
    theirs: Certificate | None = None


@dataclass(frozen=True)
class Audit:
    """The result of an audit."""

    subject: Subject
    checks: tuple[Check, ...]
    certificate: Certificate | None
    parting: str | None  # the first difference between the given certificate and this store's
    seconds: float

    @property
    def verdict(self) -> str:
        """Return the worst of the checks' verdicts."""
        return worst(self.checks)

    @property
    def failed(self) -> bool:
        """Return whether any check failed; DRIFT and INCONCLUSIVE do not count as failures."""
        return any(each.verdict == FAIL for each in self.checks)

    def document(self) -> dict[str, Any]:
        """Return the content of audit.json."""
        return {
            "verdict": self.verdict,
            "report": str(self.subject.report.place.folder) if self.subject.nodes else None,
            "checks": {
                each.letter: {
                    "name": each.name,
                    "verdict": each.verdict,
                    "findings": list(each.findings),
                    "not_checked": list(each.unchecked),
                    **each.facts,
                }
                for each in self.checks
            },
            "certificate": self.certificate["root"] if self.certificate else None,
            "parts_from_theirs_at": self.parting,
            "seconds": self.seconds,
        }


def audit(config: Config, store: Path, request: Request) -> Audit:
    """Run all checks on the artifacts behind a config's report.

    Raises `ConfigError` if a waiver names a check that does not exist, or if the report's manifest cannot be read.
    """
    started = time.monotonic()
    unknown = sorted(set(request.waived) - set(CHECKS))
    if unknown:
        raise ConfigError(f"--waive {unknown[0]}: no such check; there are {', '.join(CHECKS)}")
    read_afresh()
    found = subject(config, store)
    if found.absence:
        nothing = tuple(
            Check(letter, INCONCLUSIVE, ("there is nothing to look at",)) for letter in CHECKS if letter != "B"
        )
        absent = sorted([check("B", [found.absence]), *nothing], key=lambda each: each.letter)
        return Audit(found, tuple(absent), None, None, round(time.monotonic() - started, 1))
    made = _checked(found, request)
    own = None
    if not any(each.letter in "EG" and each.verdict == FAIL for each in made):
        own = certificate(found)
    parting = compare(found, own, request.theirs) if own is not None and request.theirs is not None else None
    if parting is not None:
        made = [_with(each, f"theirs and ours part at {parting}") if each.letter == "G" else each for each in made]
    if request.full and own is not None:
        made = [_with_full(each, found, own, request) if each.letter == "H" else each for each in made]
    waived = [_waived(each, request.waived.get(each.letter)) for each in made]
    return Audit(found, tuple(waived), own, parting, round(time.monotonic() - started, 1))


def _checked(found: Subject, request: Request) -> list[Check]:
    """Run all checks in order; if a manifest's path leads out of the store, checks G to J are inconclusive."""
    if found.report.manifest is None:
        raise ConfigError(f"{found.report.name}: {found.report.trouble}")
    with Progress("audit: raw files") as progress:
        made = [inputs.inputs(found, progress.update)]
    made += [structure.recipe(found), structure.surroundings(found), structure.randomness(found)]
    made += [structure.manifests(found), structure.lineage(found)]
    if any(structure.leads_out(node.known["attempt"]) for node in found.whole):
        return [
            *made,
            *(Check(letter, INCONCLUSIVE, ("not looked at: a path leads out of the store",)) for letter in "GHIJ"),
        ]
    made.append(structure.integrity(found))
    drifted = any(each.letter in "BC" and each.verdict == DRIFT for each in made)
    with Progress("audit: building again") as progress:
        steps = 0 if request.rebuild == "all" else request.steps
        made.append(rederivation.rederivation(found, request.rebuild, steps, request.seed, drifted, progress.update))
    return [*made, results.results(found), structure.adoptions(found, request.waived)]


def _with(made: Check, finding: str) -> Check:
    return replace(made, verdict=FAIL, findings=(finding, *made.findings))


def _with_full(made: Check, found: Subject, own: Certificate, request: Request) -> Check:
    """Build a whole second store, compare it, and return check H with the outcome."""
    with tempfile.TemporaryDirectory(prefix="acga-audit-") as folder, interrupts.deleted(folder):
        second = Path(folder) / "store"
        run.run(found.config, second, "Report", request.workers, None)
        again = subject(found.config, second)
        parting = compare(found, own, certificate(again))
    if parting is not None:
        return _with(made, f"a second store, built from nothing, parts at {parting}")
    if made.verdict == FAIL:
        return made
    return replace(made, verdict=PASS, findings=(), unchecked=(), facts={**made.facts, "full": "equal"})


def _waived(made: Check, reason: str | None) -> Check:
    if reason is None or made.verdict == PASS:
        return made
    return replace(made, verdict=WAIVED, facts={**made.facts, "waived": reason, "without_waiver": made.verdict})
