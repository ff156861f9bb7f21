"""Rendering of the miniature's scenes: a drifting textured background, the actors, a post, and their exact masks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from data.miniature.figures import FIGURES, SCALES, Pen
from data.miniature.scenes import Actor, Pose, Scene, pose

FINER = 2  # supersampling factor of the figures
_GROUNDS = {  # RGB, muted
    "grass": (92, 110, 80),
    "water": (86, 106, 122),
    "sand": (148, 134, 112),
    "pavement": (122, 120, 118),
    "brick": (126, 98, 88),
    "carpet": (112, 98, 116),
}
_INK = (28, 26, 30, 255)
_WOOD = (104, 84, 62)


@dataclass(frozen=True)
class Picture:
    """One frame and the visible part of every actor, in the order of `Scene.actors`; masks are 0 or 1 and disjoint."""

    image: UInt8[np.ndarray, "h w 3"]  # RGB
    masks: UInt8[np.ndarray, "n h w"]


@dataclass(frozen=True)
class _Sticker:
    """A drawn figure and the position of its top left corner in the frame; RGB is premultiplied by alpha."""

    pixels: UInt8[np.ndarray, "s s 4"]
    left: int
    top: int


def pictures(scene: Scene, size: int) -> Iterator[Picture]:
    """Yield the frames of the scene, each of size x size pixels."""
    tile = _ground(scene, size)
    for time in range(scene.frames):
        drift = (1 + scene.drift[0] * time, 1 + scene.drift[1] * time)
        image = cv2.getRectSubPix(tile, (size, size), (drift[0] * size, drift[1] * size))
        for actor in scene.actors:
            _furnish(image, actor, size)
        owner = np.zeros((size, size), np.uint8)
        for number, actor in enumerate(scene.actors, start=1):
            _paste(image, owner, _sticker(actor, pose(actor, time, scene.frames), size), number)
        if scene.pole is not None:
            _stand(image, owner, scene.pole, size)
        masks = np.stack([owner == number for number in range(1, len(scene.actors) + 1)])
        yield Picture(image, masks.astype(np.uint8))


# ---- actors


@lru_cache(maxsize=4)  # an actor that stands still is drawn only once
def _sticker(actor: Actor, at: Pose, size: int) -> _Sticker:
    scale = actor.extent * SCALES[actor.kind] * size
    side = int(1.5 * scale) + 4
    left, top = math.floor(at.x * size - side / 2), math.floor(at.y * size - side / 2)
    angle = at.angle
    if actor.action == "climbing" and actor.kind in ("cat", "bird"):
        angle = -1.3 * at.facing
    elif actor.kind == "car" and actor.action == "jumping":
        angle = -0.35 * at.facing * math.cos(at.cycle)
    elif actor.action == "flying" and actor.kind == "car":
        angle = -0.3 * at.facing
    cos, sin, wide = math.cos(angle), math.sin(angle), scale * FINER
    centre = ((at.x * size - left) * FINER - 0.5, (at.y * size - top) * FINER - 0.5)
    matrix = np.array(
        [[wide * cos * at.facing, -wide * sin, centre[0]], [wide * sin * at.facing, wide * cos, centre[1]]]
    )
    canvas = np.zeros((side * FINER, side * FINER, 4), np.uint8)
    FIGURES[actor.kind](Pen(canvas, matrix, actor.colour), actor.action, at.cycle)
    return _Sticker(cv2.resize(_outlined(canvas), (side, side), interpolation=cv2.INTER_AREA), left, top)


def _outlined(canvas: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """Return the canvas with a thin dark outline around the drawn figure."""
    drawn = cv2.extractChannel(canvas, 3)
    line = cv2.subtract(cv2.dilate(drawn, np.ones((3, 3), np.uint8)), drawn)
    ink = cv2.rectangle(np.empty_like(canvas), (0, 0), (canvas.shape[1], canvas.shape[0]), _INK, cv2.FILLED)
    return cv2.copyTo(ink, line, canvas)


def _paste(image: UInt8[np.ndarray, "h w 3"], owner: UInt8[np.ndarray, "h w"], sticker: _Sticker, number: int) -> None:
    """Blend the sticker over the image; where its alpha is at least 128, set `owner` to `number`."""
    size, side = image.shape[0], sticker.pixels.shape[0]
    top, left = max(sticker.top, 0), max(sticker.left, 0)
    bottom, right = min(sticker.top + side, size), min(sticker.left + side, size)
    pixels = sticker.pixels[top - sticker.top : bottom - sticker.top, left - sticker.left : right - sticker.left]
    alpha = cv2.extractChannel(pixels, 3)
    under = image[top:bottom, left:right]
    through = cv2.multiply(under, cv2.cvtColor(255 - alpha, cv2.COLOR_GRAY2RGB), scale=1 / 255)
    image[top:bottom, left:right] = cv2.add(through, cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB))
    owner[top:bottom, left:right][alpha >= 128] = number


# ---- surroundings


def _furnish(image: UInt8[np.ndarray, "h w 3"], actor: Actor, size: int) -> None:
    """Draw the object behind an actor: the rope it climbs, the bowl it eats from, or the shadow below it."""
    x, y = actor.home
    reach = actor.extent * SCALES[actor.kind]
    if actor.action == "climbing":
        _line(image, (x, y - 0.75 * reach - 0.08), (x, y + 0.75 * reach + 0.08), 0.02 * size, (70, 56, 40))
        for step in np.arange(-0.8, 0.85, 0.2):
            rung = y + float(step) * reach
            _line(image, (x - 0.22 * reach, rung), (x + 0.22 * reach, rung), 0.012 * size, (70, 56, 40))
    elif actor.action == "eating":
        bowl = (x + 0.42 * reach * actor.facing, y + (0.42 if actor.kind != "adult" else 0.12) * reach)
        _oval(image, bowl, (0.2 * reach, 0.09 * reach), (62, 60, 64))
        _oval(image, (bowl[0], bowl[1] - 0.02), (0.15 * reach, 0.05 * reach), (168, 120, 72))
    elif actor.action in ("jumping", "flying"):
        _oval(image, (x, y + 0.06 + 0.5 * reach), (0.3 * reach, 0.06 * reach), (58, 56, 54))


def _stand(image: UInt8[np.ndarray, "h w 3"], owner: UInt8[np.ndarray, "h w"], x: float, size: int) -> None:
    """Draw a wooden post in front of everything, centred at `x` (0 to 1)."""
    width = max(2, round(0.045 * size))
    left = round(x * size) - width // 2
    shade = np.linspace(1.2, 0.6, width)[:, None] * np.array(_WOOD)
    image[:, left : left + width] = shade.astype(np.uint8)
    owner[:, left : left + width] = 0


def _ground(scene: Scene, size: int) -> UInt8[np.ndarray, "tile tile 3"]:
    """Return a background texture of twice the frame's size, smooth enough to move by fractions of a pixel."""
    side = 2 * size
    rng = np.random.default_rng(scene.texture)
    rough = 16 * _noise(rng, 6, side) + 11 * _noise(rng, 20, side) + 8 * _noise(rng, 64, side)
    across, along = np.meshgrid(np.arange(side) / size, np.arange(side) / size)
    if scene.background == "water":
        rough = rough + 10 * np.sin(60 * along + 0.25 * rough)
    elif scene.background == "carpet":
        rough = rough + 9 * np.sign(np.sin(26 * across) * np.sin(26 * along))
    elif scene.background in ("pavement", "brick"):
        height, width = (0.25, 0.25) if scene.background == "pavement" else (0.11, 0.24)
        shift = width / 2 * (np.floor(along / height) % 2)
        joint = np.minimum(along % height, (across + shift) % width) < 0.016
        rough = rough - 26 * joint
    elif scene.background == "grass":
        rough = rough + 14 * np.repeat(_noise(rng, 128, side), 4, axis=0)[:side]
    tinted = np.array(_GROUNDS[scene.background]) + 10 * (rng.random(3) - 0.5) + rough[:, :, None]
    clipped: np.ndarray = np.clip(tinted, 20, 215)
    return clipped.astype(np.uint8)


def _noise(rng: np.random.Generator, cells: int, side: int) -> Float64[np.ndarray, "side side"]:
    """Return smooth noise in about [-1, 1], with `cells` random values along each side."""
    coarse = 2 * rng.random((cells, cells)) - 1
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.float64)


def _line(
    image: np.ndarray, start: tuple[float, float], end: tuple[float, float], width: float, rgb: tuple[int, int, int]
) -> None:
    cv2.line(image, _fixed(image, start), _fixed(image, end), rgb, max(1, round(width)), cv2.LINE_AA, 4)


def _oval(
    image: np.ndarray, centre: tuple[float, float], radii: tuple[float, float], rgb: tuple[int, int, int]
) -> None:
    cv2.ellipse(image, _fixed(image, centre), _fixed(image, radii), 0, 0, 360, rgb, -1, cv2.LINE_AA, 4)


def _fixed(image: np.ndarray, point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0] * image.shape[0] * 16), round(point[1] * image.shape[0] * 16)
