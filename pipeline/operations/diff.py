"""Comparison of two sets of visual features: the first extraction step that differs is found by replaying it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.operations.exchange import origin
from pipeline.operations.feature_sets import Entry, FeatureSet, UnknownFeatures, find, matched
from pipeline.runs import run
from pipeline.sections.compute import ComputeSection
from pipeline.sections.features.visual import VisualSection

if TYPE_CHECKING:
    from extractors.comparison.explanation import Explanation
    from extractors.comparison.replay import RawClip, Recipe, Replayer

Errors = dict[str, float | None]
LIMIT_SECONDS = 600.0  # time limit for decoding one video


def diff(
    a: Path | Config, b: Path | Config, store: Path, clips: int, seed: int, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Compare two sets of features, given by path or by a config of raw videos, and replay some clips that differ.

    The returned document contains the "verdict" ("identical", "explained" or "unexplained"), the first "stage" that
    differs, a "sentence", the "candidates" that were tried, and in "samples" the error of each clip: its largest
    difference relative to the largest value of B, or None if the shapes differ. Raises `UnknownFeatures` if the sets
    cannot be compared, and the errors of decoding and of reading weights.
    """
    if isinstance(a, Config):
        if isinstance(b, Config):
            raise UnknownFeatures("two configs: there are no features yet; compare with an artifact or an export")
        return _against_raw(a, find(b), store, clips, seed)
    if isinstance(b, Config):
        return _swapped(_against_raw(b, find(a), store, clips, seed))
    one, other = find(a), find(b)
    if one.stream != other.stream:
        raise UnknownFeatures(f"{a} is of {one.stream}, {b} of {other.stream}: features of one kind can be compared")
    pairs = matched(one, other)
    errors = _errors(pairs, progress)
    if all(error == 0 for error in errors.values()):
        return _document("identical", "Every value of A and B is equal.", errors)
    names = _chosen(errors, clips, seed)
    of_pairs = {name: (left, right) for name, left, right in pairs if name in names}
    if one.origin is not None:
        found = _explained(one.stream, one.origin, {name: of_pairs[name] for name in names})
    elif other.origin is not None:
        found = _swapped(_explained(one.stream, other.origin, {name: of_pairs[name][::-1] for name in names}))
    else:
        return _document("unexplained", "Neither A nor B says which videos and weights it comes from.", errors)
    settings = _settings(one.origin, other.origin) if one.origin and other.origin else {}
    return found | {"samples": errors, "settings": settings}


def _settings(of_a: dict[str, Any], of_b: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the config keys in which the recorded origins of the two sides differ, with both values."""
    found = {}
    for name, section in of_a["sections"].items():
        for key, value in section.items():
            other = of_b["sections"].get(name, {}).get(key)
            if value != other:
                found[f"{name}.{key}"] = [value, other]
    return found


def _document(verdict: str, sentence: str, errors: Errors) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "stage": None,
        "sentence": sentence,
        "candidates": [],
        "samples": errors,
        "settings": {},
    }


def _swapped(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with A and B exchanged, for the case that B is the side whose origin was replayed."""
    other = {"A": "B", "B": "A", "a": "b", "b": "a"}

    def swap(value: Any) -> Any:
        if isinstance(value, dict):
            return {other.get(key, key): swap(part) for key, part in value.items()}
        if isinstance(value, list):
            return [swap(part) for part in value]
        return re.sub(r"\b[AB]\b", lambda side: other[side[0]], value) if isinstance(value, str) else value

    kept = ("samples", "clips")
    return {key: value if key in kept else swap(value) for key, value in document.items()}


def _errors(pairs: list[tuple[str, Entry, Entry]], progress: Callable[[int, int], None]) -> Errors:
    from extractors.comparison.explanation import compared  # imported here because it loads torch

    errors: Errors = {}
    for done, (name, of_a, of_b) in enumerate(pairs):
        left, right = of_a.read(), of_b.read()
        errors[name] = compared(left, right).error if left.shape == right.shape else None
        progress(done + 1, len(pairs))
    return errors


def _chosen(errors: Errors, count: int, seed: int) -> list[str]:
    """Return the clip that differs most, and a random choice of the other clips that differ."""
    far = {name: float("inf") if error is None else error for name, error in errors.items() if error != 0}
    first, *others = sorted(far, key=lambda name: -far[name])
    return [first, *random.Random(seed).sample(others, min(count - 1, len(others)))]


def _against_raw(config: Config, features: FeatureSet, store: Path, clips: int, seed: int) -> dict[str, Any]:
    """Compare the features that a config gives for its raw videos (A) with existing features (B)."""
    (task,) = run.prepare(config, store, "Predictions")
    made = origin(task)
    labelled = {f"{video['id']}/{frame['number']:05d}" for video in _videos(made) for frame in video["labelled"]}
    entries = {entry.clip: entry for entry in features.entries if entry.clip in labelled}
    if not entries:
        raise UnknownFeatures(f"{features.path}: the clips of its rows are not known, or not among the config's videos")
    names = random.Random(seed).sample([name for name in entries if name], min(clips, len(entries)))
    return _explained(features.stream, made, {name: (None, entries[name]) for name in names}) | {
        "samples": {},
        "settings": {},
    }


def _explained(stream: str, made: dict[str, Any], pairs: dict[str, tuple[Entry | None, Entry]]) -> dict[str, Any]:
    """Compare the features of A, whose origin is known, with those of B on a few clips.

    If A does not equal the replay of its own origin, the sentence says so.
    """
    from extractors.comparison.explanation import explain

    recipe, replayer = _recipe(stream, made)
    clips = [_raw(made, name) for name in pairs]
    found = explain(recipe, clips, [other.read() for _, other in pairs.values()], replayer)
    document = found.document() | {"clips": list(pairs)}
    own = [one.read() for one, _ in pairs.values() if one is not None]
    if found.verdict != "identical" and own and not _is_own(explain(recipe, clips, own, replayer, depth=0)):
        document["sentence"] += (
            " Beware: A does not come out again as it says it was made; its weights, code or decoder were others."
        )
    elif found.verdict == "identical" and own and not _is_own(explain(recipe, clips, own, replayer, depth=0)):
        document |= {"verdict": "unexplained"}
        document["sentence"] = (
            "B is what A says of itself, but A is not: its files are not what its weights, code and decoder give here."
        )
    return document


def _is_own(found: Explanation) -> bool:
    return found.verdict == "identical"


def _recipe(stream: str, made: dict[str, Any]) -> tuple[Recipe, Replayer]:
    """Return the recipe by which features were extracted, and the replayer that extracts them again."""
    from extractors.comparison.replay import Recipe, Replayer
    from pipeline.stages.support.compute import prepare
    from pipeline.stages.support.weights import EPS, trunk

    sections = made["sections"]
    visual = VisualSection.model_validate(sections["visual"])
    prepare(ComputeSection.model_validate(sections["compute"] | {"device": "cpu"}))
    inputs = {"PretrainedTrunk.rgb": (Path(made["trunk"]),)} if made["trunk"] else {}
    video = trunk(visual, stream, made["files"], inputs).video
    recipe = Recipe(
        shift=0,
        geometry="letterbox",
        colours="rgb",
        scaling="[-1, 1]",
        bound=sections["flow"]["bound"] if stream == "flow" else None,
        eps=EPS[visual.batch_norm],
        tap=video.tap,
        arithmetic=visual.compute,
        rounding="float16",
    )
    return recipe, Replayer(video, sections["frames"]["size"], visual.batch, sections["flow"]["method"])


def _raw(made: dict[str, Any], name: str) -> RawClip:
    """Decode the frames around a labelled frame, as many as any candidate of the comparison needs."""
    from extractors.comparison.replay import RawClip, needed
    from extractors.video.decoder import Decoder

    wanted_id, _, number = name.rpartition("/")
    found = [video for video in _videos(made) if video["id"] == wanted_id]
    if not found:
        raise UnknownFeatures(f"clip {name}: its video is not among those that the features were made from")
    video, length, labelled = found[0], made["sections"]["frames"]["length"], int(number) - 1
    with Decoder() as decoder:
        count = decoder.clips(Path(video["path"]), (), LIMIT_SECONDS).count
        if video["kind"] == "jhmdb":  # the frames beyond the last mask are not part of the data set
            count = min(count, video["frames"])
        wanted = needed(labelled, length, count)
        frames = decoder.clips(Path(video["path"]), tuple(wanted), LIMIT_SECONDS).frames
    return RawClip(name, frames, wanted[0], count, labelled, length)


def _videos(made: dict[str, Any]) -> list[dict[str, Any]]:
    return [video | {"kind": entry["kind"]} for entry in made["sets"].values() for video in entry["videos"]]
