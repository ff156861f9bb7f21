"""Descriptions of the miniature's clips, without pixels: their actors and the sentences that identify them.

Lengths are in units of the frame's height (the frame is square); y points down; times are in frames.
"""

import base64
import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

VALID_ACTIONS = {  # the 43 labels of A2D (Xu et al., CVPR15)
    "adult": ("climbing", "crawling", "eating", "jumping", "rolling", "running", "walking", "none"),
    "baby": ("climbing", "crawling", "rolling", "walking", "none"),
    "ball": ("flying", "jumping", "rolling", "none"),
    "bird": ("climbing", "eating", "flying", "jumping", "rolling", "walking", "none"),
    "car": ("flying", "jumping", "rolling", "running", "none"),
    "cat": ("climbing", "eating", "jumping", "rolling", "running", "walking", "none"),
    "dog": ("crawling", "eating", "jumping", "rolling", "running", "walking", "none"),
}
COLOURS = ("red", "blue", "yellow", "white")
BACKGROUNDS = ("grass", "water", "sand", "pavement", "brick", "carpet")
ATTRIBUTES = ("colour", "place", "action", "size")
DECK = ("single",) * 2 + ("several",) * 2 + ATTRIBUTES * 4  # themes of 20 consecutive clips, in shuffled order
SHARE_OF_THREE = 0.12  # of the clips with several actors; with it, predicting the union scores about 0.45
SHARE_OF_STILL = 0.5  # of the clips whose actors differ in action; in these, one actor stands still

_TOO_ALIKE = {  # pairs of actions that look too similar within 16 frames
    *("running walking", "flying running", "crawling walking", "climbing walking"),
    *("eating none", "climbing none", "climbing eating", "climbing jumping"),
}
_SPEED = {"running": 0.019, "walking": 0.008, "crawling": 0.006, "rolling": 0.013, "flying": 0.015}  # per frame
_WORDS = {"adult": "man", "none": "standing still"}
_PLACE_WORDS = {"left": "on the left", "right": "on the right", "middle": "in the middle"}
_CELLS = {  # home positions of the actors in a clip, by layout
    "alone": {"": (0.5, 0.5)},
    "side": {"left": (0.26, 0.52), "right": (0.74, 0.52)},
    "stacked": {"top": (0.5, 0.28), "bottom": (0.5, 0.73)},
    "row": {"left": (0.18, 0.5), "middle": (0.5, 0.5), "right": (0.82, 0.5)},
    "corners": {
        "top left": (0.26, 0.28),
        "top right": (0.74, 0.28),
        "bottom left": (0.26, 0.74),
        "bottom right": (0.74, 0.74),
    },
}
_JITTER = {
    "alone": (0.14, 0.1),
    "side": (0.03, 0.12),
    "stacked": (0.12, 0.03),
    "row": (0.02, 0.1),
    "corners": (0.03, 0.03),
}
_REACH = {"alone": 0.22, "side": 0.09, "stacked": 0.26, "row": 0.05, "corners": 0.09}

Option = TypeVar("Option")


class BadSpec(ValueError):
    """Raised if a miniature cannot be generated from its spec."""


@dataclass(frozen=True)
class Spec:
    """The number and size of the clips; the same spec always gives the same bytes."""

    seed: int
    train_clips: int
    test_clips: int
    size: int  # height and width, pixels
    frames: int  # per clip
    labels: int  # labelled frames per clip, 1 to 3

    def __post_init__(self) -> None:
        if self.size < 48 or self.size % 2:
            raise BadSpec(f"miniature: size is {self.size} px; expected an even number of at least 48.")
        if not 24 <= self.frames <= 332:
            raise BadSpec(f"miniature: {self.frames} frames a clip; expected 24 to 332, as in A2D.")
        if not 1 <= self.labels <= 3:
            raise BadSpec(f"miniature: {self.labels} labelled frames a clip; expected 1 to 3.")
        if self.train_clips < 0 or self.test_clips < 0 or self.train_clips + self.test_clips == 0:
            raise BadSpec(f"miniature: {self.train_clips} train, {self.test_clips} test clips; expected one or more.")

    @property
    def labelled(self) -> tuple[int, ...]:
        """The numbers, from 1, of the labelled frames by A2D's rule; the last ones if `labels` is less than three."""
        return tuple(self.frames // 6 * step for step in (1, 2, 3)[-self.labels :])


@dataclass(frozen=True)
class Actor:
    """One figure: its appearance, its action and its track."""

    instance: int
    kind: str
    colour: str
    size: str  # small, medium or big
    action: str
    place: str
    extent: float
    home: tuple[float, float]
    reach: float
    phase: float  # 0 to 1
    facing: int  # 1 right, -1 left


@dataclass(frozen=True)
class Sentence:
    """One query; `says` holds the attributes that it names and `group` the one that identifies the actor."""

    instance: int
    text: str
    says: tuple[str, ...]
    group: str  # the only attribute that is necessary; "single": no other actor; "several": otherwise


@dataclass(frozen=True)
class Scene:
    """Everything needed to draw one clip; actors are ordered from the farthest to the nearest."""

    id: str
    split: str
    frames: int
    actors: tuple[Actor, ...]
    sentences: tuple[Sentence, ...]
    background: str
    drift: tuple[float, float]  # per frame
    pole: float | None  # x of a post in front of everything
    texture: int  # seed of the background


@dataclass(frozen=True)
class Pose:
    """An actor at one time: its centre, rotation (radians), facing, and phase of its movement (`cycle`, radians)."""

    x: float
    y: float
    angle: float
    facing: int
    cycle: float


def scenes(spec: Spec) -> tuple[Scene, ...]:
    """Return all clips of the dataset; the training clips come first."""
    found = []
    for split, count in (("train", spec.train_clips), ("test", spec.test_clips)):
        for index in range(count):
            if index % len(DECK) == 0:
                deck = _sample(_stream(spec, split, "deck", index // len(DECK)), DECK, len(DECK))
            found.append(_scene(spec, split, index, deck[index % len(DECK)]))
    return tuple(found)


def missed_scene(spec: Spec) -> Scene:
    """Return the one training clip without sentences and annotations; A2D has 28 such clips."""
    return replace(_scene(spec, "missed", 0, "single"), split="train", sentences=())


def pose(actor: Actor, time: int, frames: int) -> Pose:
    """Return the pose of the actor at a time; the movements of the actions differ within 16 frames."""
    x, y = actor.home
    facing, angle, cycle = actor.facing, 0.0, 0.0
    if actor.action in _SPEED:
        wave = (actor.phase + _SPEED[actor.action] * time / (4 * actor.reach)) % 1
        x += actor.reach * (1 - abs(4 * wave - 2))
        facing = 1 if wave < 0.5 else -1
    turn = 2 * math.pi
    if actor.action == "running":
        cycle = turn * (actor.phase + time / 7)
    elif actor.action in ("walking", "crawling"):
        cycle = turn * (actor.phase + time / 14)
    elif actor.action == "rolling":
        forth = 1 - abs(4 * wave - 2)
        cycle = angle = turn * (actor.phase + forth * actor.reach / _SPEED["rolling"] / 15)
        facing = actor.facing
    elif actor.action == "flying":
        cycle = turn * (actor.phase + time / 6)
        y += 0.05 * math.sin(turn * (actor.phase + time / 13))
    elif actor.action == "jumping":
        cycle = math.pi * (actor.phase + time / 9)
        y += 0.06 - 0.15 * abs(math.sin(cycle))
    elif actor.action in ("climbing", "eating"):
        cycle = turn * (actor.phase + time / 9)
        y += 0.14 * (0.5 - time / frames) if actor.action == "climbing" else 0
    return Pose(x, y, angle, facing, cycle)


def resolved_by(actors: Sequence[Actor], target: Actor, says: Sequence[str]) -> str | None:
    """Return the group of a sentence that names these attributes of the target; None if it fits another actor, too."""
    others = [actor for actor in actors if actor.instance != target.instance]
    differing = [{name for name in says if getattr(other, name) != getattr(target, name)} for other in others]
    if not all(differing):
        return None
    if not others:
        return "single"
    needed = [name for name in says if {name} in differing]
    return needed[0] if len(needed) == 1 and needed[0] in ATTRIBUTES else "several"


# ---- one scene


def _scene(spec: Spec, split: str, index: int, theme: str) -> Scene:
    rng = _stream(spec, split, "scene", index)
    while True:  # draw again until the actors fit
        actors, alike, shared = _cast(rng, theme)
        sentences = _sentences(rng, theme, actors, alike, shared)
        if sentences is not None and _visible(actors, spec):
            break
    return Scene(
        id=_clip_id(spec, split, index),
        split=split,
        frames=spec.frames,
        actors=tuple(sorted(actors, key=lambda actor: actor.home[1])),
        sentences=sentences,
        background=_pick(rng, BACKGROUNDS),
        drift=(0.012 * (rng.random() - 0.5), 0.006 * (rng.random() - 0.5)),
        pole=0.15 + 0.7 * rng.random() if rng.random() < 0.15 else None,
        texture=int(rng.random() * 2**32),
    )


def _cast(rng: random.Random, theme: str) -> tuple[list[Actor], int, frozenset[str]]:
    """Return the actors, the number of them (the first ones) that differ by the theme, and their common attributes."""
    count = 1 if theme == "single" else 3 if rng.random() < SHARE_OF_THREE else 2
    alike = 0 if theme in ("single", "several") else count
    if count == 3 and (theme == "size" or (alike and rng.random() < 0.4)):
        alike = 2
    shared = frozenset({"kind"} | {name for name in ("colour", "action") if name != theme and rng.random() < 0.6})
    kinds = _sample(rng, tuple(VALID_ACTIONS), 2)
    colours = _sample(rng, COLOURS, 3)
    if theme in ("single", "several"):
        kinds = [_pick(rng, tuple(VALID_ACTIONS)) for _ in range(count)]
        colours = [_pick(rng, COLOURS) for _ in range(count)]
    else:
        kinds = [kinds[0]] * alike + [kinds[1]] * (count - alike)
        colours = colours[:1] * alike if "colour" in shared else colours[:alike]
        colours += [_pick(rng, COLOURS) for _ in range(count - alike)]
    actions = _actions(rng, theme, kinds, alike, shared)
    sizes = ["medium"] * count
    if theme in ("size", "several") or (theme == "single" and rng.random() < 0.6):
        sizes = [_pick(rng, ("small", "big")) for _ in range(count)]
    if theme == "size":
        sizes[:2] = _sample(rng, ("small", "big"), 2)
    layout = _layout(rng, theme, actions)
    places = _sample(rng, tuple(_CELLS[layout]), count)
    rows = zip(kinds, colours, sizes, actions, places, strict=True)
    return [_actor(rng, i, layout, count, *row) for i, row in enumerate(rows)], alike, shared


def _actions(rng: random.Random, theme: str, kinds: Sequence[str], alike: int, shared: frozenset[str]) -> list[str]:
    actions = [_pick(rng, VALID_ACTIONS[kind]) for kind in kinds]
    if "action" in shared:
        actions[:alike] = actions[:1] * alike
    still = theme == "action" and rng.random() < SHARE_OF_STILL
    while theme == "action" and not (_distinct(actions[:alike]) and (not still or "none" in actions[:alike])):
        actions[:alike] = [_pick(rng, VALID_ACTIONS[kinds[0]]) for _ in range(alike)]
    return actions


def _distinct(actions: Sequence[str]) -> bool:
    pairs = {" ".join(sorted((one, other))) for i, one in enumerate(actions) for other in actions[:i]}
    return len(set(actions)) == len(actions) and _TOO_ALIKE.isdisjoint(pairs)


def _layout(rng: random.Random, theme: str, actions: Sequence[str]) -> str:
    if len(actions) == 1:
        return "alone"
    wide = any(action in ("running", "flying", "rolling") for action in actions)
    if len(actions) == 3:
        return "row" if not wide and theme not in ("size", "several") and rng.random() < 0.5 else "corners"
    return "stacked" if rng.random() < (0.65 if wide and theme != "place" else 0.4) else "side"


def _actor(
    rng: random.Random, index: int, layout: str, count: int, kind: str, colour: str, size: str, action: str, place: str
) -> Actor:
    smallest, largest = {"small": (0.3, 0.315), "medium": (0.46, 0.51), "big": (0.53, 0.55)}[size]
    if count == 3:
        smallest, largest = {"small": (0.28, 0.29), "medium": (0.37, 0.42), "big": (0.48, 0.495)}[size]
    if layout == "row":
        smallest, largest = 0.33, 0.36
    extent = smallest + (largest - smallest) * rng.random()
    x, y = _CELLS[layout][place]
    x += _JITTER[layout][0] * (2 * rng.random() - 1)
    y += _JITTER[layout][1] * (2 * rng.random() - 1)
    reach = _REACH[layout] * (0.8 + 0.2 * rng.random())
    side = min(0.5 - extent / 2, 0.5 - (reach if action in _SPEED else 0.0) - 0.45 * extent)
    rise = 0.5 - 0.54 * extent - (0.05 if action in ("jumping", "climbing", "flying") else 0.0)
    if layout in ("alone", "stacked") and action in _SPEED:
        reach = min(reach, 0.5 - extent / 2)
        side = 0.5 - extent / 2 - reach
    home = (min(max(x, 0.5 - side), 0.5 + side), min(max(y, 0.5 - rise), 0.5 + rise))
    facing = 1 if rng.random() < 0.5 else -1
    return Actor(index, kind, colour, size, action, place, extent, home, reach, rng.random(), facing)


def _visible(actors: Sequence[Actor], spec: Spec) -> bool:
    """Return whether all actors stay so far apart that none is mostly hidden by another."""
    for time in sorted({*range(0, spec.frames, 8), *(number - 1 for number in spec.labelled)}):
        at = [pose(actor, time, spec.frames) for actor in actors]
        nearest = 0.72 if time + 1 in spec.labelled else 0.6
        for i, one in enumerate(actors):
            for j, other in enumerate(actors[:i]):
                distance = math.hypot(at[i].x - at[j].x, at[i].y - at[j].y)
                if distance < nearest * (one.extent + other.extent) / 2:
                    return False
    return True


# ---- sentences


def _sentences(
    rng: random.Random, theme: str, actors: Sequence[Actor], alike: int, shared: frozenset[str]
) -> tuple[Sentence, ...] | None:
    """Return one or two sentences per actor, or None if the actors cannot be identified as the theme requires."""
    found = []
    for actor in actors:
        first = None
        for _ in range(2 if rng.random() < 0.12 else 1):
            says, group = _saying(rng, theme, actors, actor, shared if actor.instance < alike else None)
            if group is None or (first and group != first):
                return None
            first = group
            found.append(Sentence(actor.instance, _quirk(rng, _text(rng, actor, says)), says, group))
    return tuple(found)


def _saying(
    rng: random.Random, theme: str, actors: Sequence[Actor], actor: Actor, shared: frozenset[str] | None
) -> tuple[tuple[str, ...], str | None]:
    for _ in range(12):
        if shared is not None:
            chosen = {"kind", theme} | {name for name in sorted(shared) if rng.random() < 0.6}
        else:
            chosen = {"kind"} | {name for name in ATTRIBUTES if rng.random() < 0.45}
            if "medium" in {other.size for other in actors}:
                chosen.discard("size")
            if len(actors) == 1:
                chosen.discard("place")
        says = tuple(sorted(chosen))
        group = resolved_by(actors, actor, says)
        if group is not None and (shared is None or group == theme):
            return says, group
    return (), None


def _text(rng: random.Random, actor: Actor, says: Sequence[str]) -> str:
    noun = _WORDS.get(actor.kind, actor.kind)
    clothed = actor.kind in ("adult", "baby")
    words = [_pick(rng, ("the", "the", "a", ""))]
    if "size" in says:
        words.append(_pick(rng, {"small": ("small", "smaller"), "big": ("big", "bigger")}[actor.size]))
    if "colour" in says:
        words.append(f"{noun} in {actor.colour}" if clothed else f"{actor.colour} {noun}")
    else:
        words.append(noun)
    place = _PLACE_WORDS.get(actor.place, f"at the {actor.place}") if "place" in says else ""
    action = f"{_pick(rng, ('is', 'is', ''))} {_WORDS.get(actor.action, actor.action)}" if "action" in says else ""
    words += [action, place] if rng.random() < 0.4 else [place, action]
    return " ".join(" ".join(words).split())


def _quirk(rng: random.Random, text: str) -> str:
    """Return the text, sometimes with a capital, a double space or a trailing space, as in A2D."""
    draw = rng.random()
    if draw < 0.04:
        return text[0].upper() + text[1:]
    if draw < 0.055:
        return text.replace(" ", "  ", 1)
    return text + " " if draw < 0.075 else text


# ---- random numbers: only `random()` is used, since all Python versions give the same values for it


def _stream(spec: Spec, *names: object) -> random.Random:
    digest = hashlib.sha256("/".join(map(str, (spec.seed, *names))).encode()).digest()
    return random.Random(int.from_bytes(digest))


def _pick(rng: random.Random, options: Sequence[Option]) -> Option:
    return options[int(rng.random() * len(options))]


def _sample(rng: random.Random, options: Sequence[Option], count: int) -> list[Option]:
    left = list(options)
    return [left.pop(int(rng.random() * len(left))) for _ in range(count)]


def _clip_id(spec: Spec, split: str, index: int) -> str:
    """Return 11 characters of YouTube's alphabet; one id in 16 begins with `-` and one in 16 contains `_`."""
    digest = hashlib.sha256(f"{spec.seed}/{split}/{index}/id".encode()).digest()
    name = base64.urlsafe_b64encode(digest).decode()[:11]
    if index % 16 == 3:
        return "-" + name[1:]
    return name[:5] + "_" + name[6:] if index % 16 == 6 else name
