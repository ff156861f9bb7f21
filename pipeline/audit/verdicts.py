"""The result of each check of an audit: a verdict, the findings, and what was not checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

PASS, FAIL, DRIFT, INCONCLUSIVE, WAIVED = "PASS", "FAIL", "DRIFT", "INCONCLUSIVE", "WAIVED"
WORST_FIRST = (FAIL, INCONCLUSIVE, DRIFT, WAIVED, PASS)
CHECKS = {
    "A": "inputs",
    "B": "recipe",
    "C": "environment",
    "D": "randomness",
    "E": "manifests",
    "F": "lineage",
    "G": "integrity",
    "H": "re-derivation",
    "I": "results",
    "J": "adoptions and waivers",
}


@dataclass(frozen=True)
class Check:
    """The result of one check: its letter, its verdict, the findings, what was not checked, and facts."""

    letter: str
    verdict: str
    findings: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name of the check."""
        return CHECKS[self.letter]


def check(
    letter: str,
    wrong: Sequence[str] = (),
    drift: Sequence[str] = (),
    unknown: Sequence[str] = (),
    unchecked: Sequence[str] = (),
    facts: dict[str, Any] | None = None,
) -> Check:
    """Return the result of a check.

    The verdict is FAIL if anything is wrong, else INCONCLUSIVE if anything is unknown, else DRIFT if anything drifted,
    else PASS.
    """
    verdict = FAIL if wrong else INCONCLUSIVE if unknown else DRIFT if drift else PASS
    return Check(letter, verdict, (*wrong, *unknown, *drift), tuple(unchecked), facts or {})


def worst(checks: Sequence[Check]) -> str:
    """Return the verdict of the whole audit, which is the worst of the checks."""
    return min((each.verdict for each in checks), key=WORST_FIRST.index, default=INCONCLUSIVE)


def first_failing(checks: Sequence[Check]) -> list[Check]:
    """Return the checks, failing ones first, otherwise in order of their letters."""
    return sorted(checks, key=lambda each: (each.verdict != FAIL, each.letter))
