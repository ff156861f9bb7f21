"""What an audit says: a verdict for each check, what was found, and what was not looked at."""

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
    """One check: its letter, its verdict, what is not as it should be, what was not checked, and facts."""

    letter: str
    verdict: str
    findings: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is about."""
        return CHECKS[self.letter]


def check(
    letter: str,
    wrong: Sequence[str] = (),
    drift: Sequence[str] = (),
    unknown: Sequence[str] = (),
    unchecked: Sequence[str] = (),
    facts: dict[str, Any] | None = None,
) -> Check:
    """A check by what was found: what is wrong fails it, what could not be decided leaves it open, drift is told."""
    verdict = FAIL if wrong else INCONCLUSIVE if unknown else DRIFT if drift else PASS
    return Check(letter, verdict, (*wrong, *unknown, *drift), tuple(unchecked), facts or {})


def worst(checks: Sequence[Check]) -> str:
    """The verdict of the whole audit."""
    return min((each.verdict for each in checks), key=WORST_FIRST.index, default=INCONCLUSIVE)


def first_failing(checks: Sequence[Check]) -> list[Check]:
    """The checks, failing ones first, else in their order."""
    return sorted(checks, key=lambda each: (each.verdict != FAIL, each.letter))
