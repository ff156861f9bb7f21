"""Search for the reason why two sets of visual features, A and B, differ: changes of A's recipe that give B's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from data.wording import counted, numbered
from extractors.comparison.replay import ROUNDINGS, STAGES, RawClip, Recipe, Replayer, candidates, changes, rounded
from extractors.shards.float16 import FeatureOutOfRange

TOLERANCE = 2e-3  # largest relative error of an explanation (bfloat16 rounds by 2e-3)
SAME_ERROR = 2.0**-10  # error in float16 that differences in the last bits of float32 may cause
SAME_DISTANCE = 1e-4  # half of the distance that float16 rounding causes
CLEARLY = 4.0  # factor by which an explanation must be nearer than A's recipe, and a rounding than the recipe's own
TIE = 1.1  # distances up to TIE times the smallest one, plus CHANCE, count as equal
CHANCE = 1e-6  # difference between distances that the last bits of float32 can cause

Features = Float[np.ndarray, "c t2 h2 w2"]
Pair = tuple[RawClip, Features]


@dataclass(frozen=True)
class Comparison:
    """Differences between features and the expected features.

    `error` is the largest difference relative to the largest expected value; `distance` is the root mean square of the
    differences relative to that of the expected values; `cosine` is the cosine similarity."""

    error: float
    distance: float
    cosine: float

    def document(self) -> dict[str, float]:
        """Return the comparison as a JSON object."""
        return {"error": self.error, "distance": self.distance, "cosine": self.cosine}


@dataclass(frozen=True)
class Finding:
    """The result of replaying a recipe on one or more clips."""

    recipe: Recipe
    clips: tuple[Comparison, ...]

    @property
    def error(self) -> float:
        """The largest error of the clips."""
        return max(clip.error for clip in self.clips)

    @property
    def distance(self) -> float:
        """The largest distance of the clips."""
        return max(clip.distance for clip in self.clips)

    @property
    def cosine(self) -> float:
        """The smallest cosine of the clips."""
        return min(clip.cosine for clip in self.clips)

    @property
    def same(self) -> bool:
        """Whether the features equal B's up to differences in the last bits of float32."""
        return self.error <= SAME_ERROR and self.distance <= SAME_DISTANCE

    def document(self, base: Recipe) -> dict[str, Any]:
        """Return the finding as a JSON object, with the changes of its recipe from `base`."""
        return {
            "changes": [
                {"stage": stage, "a": a, "b": b, "text": phrase(stage, a, b)}
                for stage, (a, b) in changes(base, self.recipe).items()
            ],
            "error": self.error,
            "distance": self.distance,
            "cosine": self.cosine,
            "clips": [clip.document() for clip in self.clips],
        }


@dataclass(frozen=True)
class Explanation:
    """The result of the search, by `verdict`: A's recipe gives B's features ("identical"), another recipe gives them
    ("explained"), or no recipe that was tried does ("unexplained").

    `shape` is the shape of B's features. `unchanged` is the finding of A's own recipe, in the order of the clips, or
    None if its features have another shape. `cause` is the finding that explains the difference on all clips.
    `findings` holds the other findings of B's shape on the clip on which A's recipe is worst, nearest first."""

    verdict: str
    base: Recipe
    shape: tuple[int, ...]
    unchanged: Finding | None
    cause: Finding | None
    findings: tuple[Finding, ...]

    @property
    def stages(self) -> tuple[str, ...]:
        """The names, as in STAGES, of the steps that differ, in order; empty if nothing is explained."""
        return () if self.cause is None else tuple(changes(self.base, self.cause.recipe))

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if self.verdict == "identical" and self.unchanged is not None:
            return f"A and B are made alike: A's recipe gives B's features (largest error {self.unchanged.error:.1e})."
        if self.cause is not None:
            first, *others = (phrase(stage, a, b) for stage, (a, b) in changes(self.base, self.cause.recipe).items())
            then = "".join(f", and {other}" for other in others)
            return f"{first}{then} (so replayed, the largest error is {self.cause.error:.1e}{self._instead})."
        if not self.findings:
            shape = " x ".join(map(str, self.shape))
            return f"No change of A's recipe that was tried gives features of B's shape, {shape}."
        nearest = self.findings[0]
        near = "; ".join(phrase(stage, a, b) for stage, (a, b) in changes(self.base, nearest.recipe).items())
        return (
            f"No change of A's recipe that was tried explains B{self._unexplained}; the nearest is "
            f"{near} (largest error {nearest.error:.1e})."
        )

    def document(self) -> dict[str, Any]:
        """Return the explanation as a JSON object."""
        return {
            "verdict": self.verdict,
            "stage": next(iter(self.stages), None),
            "sentence": self.sentence,
            "recipe": self.base.document(),
            "unchanged": None if self.unchanged is None else self.unchanged.document(self.base),
            "cause": None if self.cause is None else self.cause.document(self.base),
            "candidates": [finding.document(self.base) for finding in self.findings],
        }

    @property
    def _instead(self) -> str:
        return "" if self.unchanged is None else f" instead of {self.unchanged.error:.1e}"

    @property
    def _unexplained(self) -> str:
        return "" if self.unchanged is None else f", which is off by {self.unchanged.error:.1e}"


def explain(
    base: Recipe, clips: Sequence[RawClip], expected: Sequence[Features], replayer: Replayer, depth: int = 2
) -> Explanation:
    """Search for the recipe that gives B's features `expected`, beginning with A's recipe `base`.

    First all recipes that differ from `base` in one step are replayed. While none explains B, one more step of the
    nearest recipe is changed, up to `depth` steps. All roundings are tried with each recipe and do not count as a step.

    A recipe explains B if its error is at most TOLERANCE and its distance at most 1 / CLEARLY of that of `base`; of
    several that are equally near, the first one counts. Recipes are replayed on the clip on which `base` is worst, and
    those that explain it also on the others, until one gives B's features up to the last bits.
    Raises NothingToCompare, NotFinite, FramesMissing."""
    pairs = _pairs(clips, expected)
    own = _findings(base, pairs, replayer)
    unchanged = next((finding for finding in own if finding.recipe == base), None)
    if unchanged is not None:
        if unchanged.same:
            return Explanation("identical", base, expected[0].shape, unchanged, None, ())
        pairs = _farthest_first(pairs, unchanged)
    search = _Search(base, unchanged, pairs, replayer)
    search.add(own)
    nearest, of_its_shape = base, bool(own)
    for _ in range(depth):
        search.beside(nearest, of_its_shape)
        if search.explaining or not search.found:
            break
        nearest, of_its_shape = search.nearest(), True
    return search.explanation()


def compared(found: Features, expected: Features) -> Comparison:
    """Compare features with the expected ones of the same shape; equal features give error 0, distance 0, cosine 1."""
    a, b = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    difference = a - b
    largest = float(np.abs(b).max(initial=0.0)) or float(np.abs(a).max(initial=0.0)) or 1.0
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    scale = norms[1] or norms[0] or 1.0
    equal = not difference.any()
    return Comparison(
        error=float(np.abs(difference).max(initial=0.0)) / largest,
        distance=float(np.linalg.norm(difference)) / scale,
        cosine=1.0 if equal else float(a @ b) / (norms[0] * norms[1] or 1.0),
    )


def phrase(stage: str, a: Any, b: Any) -> str:
    """Describe in words how B differs from A in a step."""
    if stage == STAGES["shift"]:
        frames = abs(b - a)
        return (
            f"{stage}: the clips start {frames} frame{'s' if frames > 1 else ''} "
            f"{'later' if b > a else 'earlier'} in B (shift {b - a:+d})"
        )
    if stage == STAGES["bound"]:
        a, b = ("none" if bound is None else f"at {bound:g} {numbered(bound, 'pixel')}" for bound in (a, b))
    return f"{stage}: {a} in A, {b} in B"


class _Search:
    """State of the search: the findings on the first clip (`found`) and those that explain B on all clips."""

    def __init__(self, base: Recipe, unchanged: Finding | None, pairs: Sequence[Pair], replayer: Replayer) -> None:
        self._base, self._unchanged, self._pairs, self._replayer = base, unchanged, pairs, replayer
        self._shape = pairs[0][1].shape
        self.found: list[Finding] = []
        self.explaining: list[Finding] = []

    def beside(self, recipe: Recipe, of_its_shape: bool) -> None:
        """Replay the recipes that change one more step than `recipe`.

        `of_its_shape` says whether the features of `recipe` have B's shape."""
        channels, steps = self._replayer.video.channels, len(changes(self._base, recipe))
        for _, candidate in candidates(recipe, self._replayer.video):
            if any(finding.same for finding in self.explaining):
                return
            candidate = replace(candidate, rounding=self._base.rounding)  # `_findings` tries the other roundings
            may_fit = of_its_shape if candidate.tap == recipe.tap else channels[candidate.tap] == self._shape[0]
            if may_fit and len(changes(self._base, candidate)) > steps:
                self._try(candidate)

    def add(self, findings: Sequence[Finding]) -> None:
        """Add the finding of a recipe on all clips if it explains B."""
        finding = _of_a_rounding(findings, self._base.rounding)
        if finding is not None and self._explains(finding):
            self.explaining.append(finding)

    def nearest(self) -> Recipe:
        """Return the recipe with the smallest distance on the first clip."""
        return replace(min(self.found, key=_distance).recipe, rounding=self._base.rounding)

    def explanation(self) -> Explanation:
        """Return the result of the search."""
        near = TIE * min((finding.distance for finding in self.explaining), default=0.0) + CHANCE
        cause = next((finding for finding in self.explaining if finding.distance <= near), None)
        others = [finding for finding in self.found if cause is None or finding.recipe != cause.recipe]
        verdict = "unexplained" if cause is None else "explained"
        ranked = tuple(sorted(others, key=_distance))
        return Explanation(verdict, self._base, self._shape, self._unchanged, cause, ranked)

    def _try(self, candidate: Recipe) -> None:
        finding = _of_a_rounding(_findings(candidate, self._pairs[:1], self._replayer), self._base.rounding)
        if finding is not None:
            self.found.append(finding)
            if self._explains(finding):
                self.add(_findings(candidate, self._pairs, self._replayer))

    def _explains(self, finding: Finding) -> bool:
        nearer = self._unchanged is None or finding.distance * CLEARLY <= self._unchanged.distance
        return finding.error <= TOLERANCE and nearer


def _pairs(clips: Sequence[RawClip], expected: Sequence[Features]) -> list[Pair]:
    if not clips or len(clips) != len(expected):
        raise NothingToCompare(
            f"{counted(len(clips), 'clip')} and features of {len(expected)}: expected as many, 1 or more."
        )
    for clip, features in zip(clips, expected, strict=True):
        if not np.isfinite(features).all():
            raise NotFinite(f"clip {clip.name}: B's features are not all finite numbers. Extract them again.")
    return list(zip(clips, expected, strict=True))


def _farthest_first(pairs: Sequence[Pair], finding: Finding) -> list[Pair]:
    order = sorted(range(len(pairs)), key=lambda place: -finding.clips[place].distance)
    return [pairs[place] for place in order]


def _findings(recipe: Recipe, pairs: Sequence[Pair], replayer: Replayer) -> list[Finding]:
    """Return the findings of a recipe with each of ROUNDINGS.

    The result is empty if the features do not have B's shape or are not finite."""
    comparisons: dict[str, list[Comparison]] = {rounding: [] for rounding in ROUNDINGS}
    for clip, expected in pairs:
        features = replayer.features(clip, replace(recipe, rounding="float32"))
        if features.shape != expected.shape or not np.isfinite(features).all():
            return []
        for rounding in list(comparisons):
            try:
                comparisons[rounding].append(compared(rounded(features, rounding, clip.name), expected))
            except FeatureOutOfRange:
                del comparisons[rounding]
    return [Finding(replace(recipe, rounding=rounding), tuple(of_clips)) for rounding, of_clips in comparisons.items()]


def _of_a_rounding(findings: Sequence[Finding], own: str) -> Finding | None:
    """Return the finding with the rounding `own`, or the nearest one if it is nearer by a factor above CLEARLY."""
    nearest = min(findings, key=_distance, default=None)
    kept = next((finding for finding in findings if finding.recipe.rounding == own), nearest)
    if nearest is not None and kept is not None and nearest.distance * CLEARLY < kept.distance:
        return nearest
    return kept


def _distance(finding: Finding) -> float:
    return finding.distance


class NothingToCompare(ValueError):
    """Raised if there are no clips, or not as many features as clips."""


class NotFinite(ValueError):
    """Raised if features contain NaN or infinite values."""
