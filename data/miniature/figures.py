"""The figures of the seven actors: functions that draw polygons, ovals and limbs with a `Pen`.

A figure fills a box of about 1 x 1 around (0, 0) and faces right; y points down. `cycle` is the phase of its
movement in radians.
"""

import copy
import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import Float, Int32, UInt8

PAINTS = {  # RGB of the colours that sentences name
    "red": (214, 38, 36),
    "blue": (38, 84, 224),
    "yellow": (240, 208, 36),
    "white": (244, 244, 244),
}
_FIXED = {
    "skin": (236, 188, 150),
    "hair": (84, 54, 34),
    "ink": (28, 26, 30),
    "beak": (240, 140, 30),
    "glass": (150, 196, 214),
}
_SHIFT = 4  # fractional bits of OpenCV's coordinates
_RING = np.array([(math.cos(step * math.pi / 14), math.sin(step * math.pi / 14), 1.0) for step in range(28)])

Point = tuple[float, float]


class Pen:
    """Drawing in figure coordinates on an RGBA canvas; `matrix` maps these coordinates to pixels."""

    def __init__(self, canvas: UInt8[np.ndarray, "h w 4"], matrix: Float[np.ndarray, "2 3"], colour: str) -> None:
        self.canvas, self.matrix = canvas, matrix
        self.rows = (matrix * (1 << _SHIFT)).tolist()
        self.unit = math.hypot(matrix[0, 0], matrix[1, 0])
        base = PAINTS[colour]
        dark, light = tuple(int(v * 0.68) for v in base), tuple(int(v * 0.62 + 255 * 0.38) for v in base)
        shades = {"base": base, "dark": dark, "light": light} | _FIXED
        self.paints = {name: (*rgb, 255) for name, rgb in shades.items()}

    def scaled(self, share: float) -> "Pen":
        """Return a pen on the same canvas that scales all drawing by `share` about the same centre."""
        pen = copy.copy(self)
        pen.matrix, pen.unit = self.matrix * (share, share, 1.0), self.unit * share
        pen.rows = (pen.matrix * (1 << _SHIFT)).tolist()
        return pen

    def polygon(self, points: Sequence[Point], paint: str) -> None:
        """Fill a polygon."""
        cv2.fillPoly(self.canvas, [self._pixels(points)], self.paints[paint], cv2.LINE_8, _SHIFT)

    def oval(self, x: float, y: float, rx: float, ry: float, paint: str, tilt: float = 0.0) -> None:
        """Fill an ellipse with the centre (x, y) and the radii rx and ry, rotated by `tilt` radians."""
        cos, sin = math.cos(tilt), math.sin(tilt)
        axes = self.matrix @ np.array([[rx * cos, -ry * sin, x], [rx * sin, ry * cos, y], [0.0, 0.0, 1.0]])
        points = np.rint(_RING @ (axes.T * (1 << _SHIFT))).astype(np.int32)
        cv2.fillConvexPoly(self.canvas, points, self.paints[paint], cv2.LINE_8, _SHIFT)

    def limb(self, points: Sequence[Point], width: float, paint: str) -> None:
        """Draw a line with round ends through the points."""
        thickness = max(1, round(width * self.unit))
        cv2.polylines(self.canvas, [self._pixels(points)], False, self.paints[paint], thickness, cv2.LINE_8, _SHIFT)

    def _pixels(self, points: Sequence[Point]) -> Int32[np.ndarray, "n 2"]:
        (a, b, c), (d, e, f) = self.rows
        return np.array([(round(a * x + b * y + c), round(d * x + e * y + f)) for x, y in points], dtype=np.int32)


def adult(pen: Pen, action: str, cycle: float) -> None:
    if action == "crawling":
        return _on_all_fours(pen.scaled(0.84), cycle, head=0.16, body=0.14, limb=0.14)
    swing = {"running": 0.95, "walking": 0.45, "climbing": 0.5}.get(action, 0.0) * math.sin(cycle)
    lean = 0.1 if action == "running" else 0.0
    spread = 0.5 if action == "jumping" else 0.12
    shoulder, hip = (lean, -0.17), (0.0, 0.14)
    for side, paint in ((-1, "dark"), (1, "dark")):
        turn = side * (swing + (spread if action not in ("running", "walking") else 0))
        knee = _reach(hip, turn, 0.17)
        bend = -0.7 * max(0.0, -side * swing) if action == "running" else 0.0
        pen.limb([hip, knee, _reach(knee, turn + bend, 0.17)], 0.15, paint)
    pen.polygon([(lean - 0.17, -0.24), (lean + 0.17, -0.24), (0.14, 0.18), (-0.14, 0.18)], "base")
    for side in (-1, 1):
        start = (shoulder[0] + 0.14 * side, shoulder[1])
        turn = {"jumping": side * 2.5, "climbing": side * (2.75 + 0.35 * math.sin(cycle))}.get(action, side * 0.3)
        if action in ("running", "walking"):
            turn = -side * swing
        elbow = _reach(start, turn, 0.16)
        hand = _reach(elbow, turn + (0.9 if action == "running" else 0.0), 0.14)
        if action == "eating" and side == 1:
            elbow, hand = (0.25, 0.0), (0.27 - 0.09 * math.sin(cycle), -0.13 - 0.16 * math.sin(cycle))
        pen.limb([start, elbow, hand], 0.11, "base")
        pen.oval(*hand, 0.055, 0.055, "skin")
    _face(pen, lean * 1.6, -0.37, 0.135)


def baby(pen: Pen, action: str, cycle: float) -> None:
    if action == "crawling":
        return _on_all_fours(pen, cycle, head=0.22, body=0.19, limb=0.14)
    swing = {"walking": 0.5, "climbing": 0.5}.get(action, 0.0) * math.sin(cycle)
    for side in (-1, 1):
        foot = _reach((0.09 * side, 0.25), side * 0.15 + side * swing, 0.17)
        pen.limb([(0.09 * side, 0.25), foot], 0.16, "dark")
        turn = {"climbing": side * (2.6 + 0.4 * math.sin(cycle)), "walking": side * (1.2 + 0.3 * math.sin(cycle))}
        hand = _reach((0.16 * side, 0.0), turn.get(action, side * 0.8), 0.2)
        pen.limb([(0.16 * side, 0.02), hand], 0.12, "base")
        pen.oval(*hand, 0.06, 0.06, "skin")
    pen.oval(0.0, 0.13, 0.23, 0.25, "base")
    pen.oval(0.0, 0.17, 0.12, 0.12, "light")
    _bonnet(pen, 0.0, -0.24, 0.24)


def ball(pen: Pen, action: str, cycle: float) -> None:
    squash = 1.0 - (0.2 * max(0.0, 1 - 3 * abs(math.sin(cycle))) if action == "jumping" else 0.0)
    rx, ry = 0.43 / math.sqrt(squash), 0.43 * squash
    pen.oval(0.0, 0.0, rx, ry, "base")
    for start in (0.3, 0.3 + 2 * math.pi / 3, 0.3 + 4 * math.pi / 3):  # a beach ball's panels
        arc = [(rx * math.cos(start + step * 0.131), ry * math.sin(start + step * 0.131)) for step in range(8)]
        pen.polygon([(0.0, 0.0), *arc], "dark")
    pen.oval(0.0, 0.0, 0.1, 0.1 * squash, "light")


def bird(pen: Pen, action: str, cycle: float) -> None:
    beat = math.sin(cycle)
    if action != "flying":
        for side in (-1, 1):
            turn = side * 0.6 * beat if action in ("walking", "climbing") else side * 0.15
            foot = _reach((0.05 * side, 0.22), turn, 0.22)
            pen.limb([(0.05 * side, 0.22), foot, (foot[0] + 0.09, foot[1])], 0.05, "beak")
    pen.polygon([(-0.2, -0.05), (-0.56, -0.14), (-0.54, 0.1), (-0.18, 0.16)], "dark")
    if action == "flying":
        pen.polygon([(0.16, 0.0), (-0.16, 0.02), (-0.3, -0.48 * beat - 0.06), (0.02, -0.5 * beat - 0.06)], "dark")
    pen.oval(0.0, 0.05, 0.33, 0.23, "base", -0.15)
    dip = 0.26 * (0.5 + 0.5 * beat) if action == "eating" else 0.0
    head = (0.28 + 0.4 * dip, -0.18 + 1.5 * dip)
    pen.polygon(
        [(head[0] + 0.12, head[1] - 0.07), (head[0] + 0.34, head[1] + 0.04 + dip), (head[0] + 0.1, head[1] + 0.1)],
        "beak",
    )
    pen.oval(*head, 0.18, 0.18, "base")
    _eye(pen, head[0] + 0.06, head[1] - 0.04)
    if action == "flying":
        tip = (-0.12, -0.55 * beat)
        pen.polygon([(0.2, 0.02), (-0.22, 0.06), (tip[0] - 0.16, tip[1]), (tip[0] + 0.1, tip[1] * 1.05)], "light")
    else:
        lift = 0.6 * abs(beat) if action == "jumping" else 0.0
        pen.oval(-0.08, 0.05 - 0.12 * lift, 0.23, 0.13, "dark", -0.35 + lift)


def car(pen: Pen, action: str, cycle: float) -> None:
    pen.polygon([(-0.33, -0.02), (-0.22, -0.27), (0.13, -0.27), (0.29, -0.02)], "base")
    pen.polygon([(-0.24, -0.04), (-0.17, -0.2), (-0.04, -0.2), (-0.04, -0.04)], "glass")
    pen.polygon([(0.02, -0.04), (0.02, -0.2), (0.1, -0.2), (0.2, -0.04)], "glass")
    body = [(-0.5, 0.02), (-0.44, -0.07), (0.3, -0.07), (0.47, -0.01), (0.5, 0.06), (0.5, 0.19), (-0.5, 0.19)]
    pen.polygon(body, "base")
    pen.polygon([(-0.5, 0.1), (0.5, 0.1), (0.5, 0.19), (-0.5, 0.19)], "dark")
    pen.oval(0.45, 0.035, 0.045, 0.04, "light")
    for x in (-0.27, 0.27):
        pen.oval(x, 0.19, 0.145, 0.145, "ink")
        pen.oval(x, 0.19, 0.075, 0.075, "light")
        spoke = (0.07 * math.cos(cycle), 0.07 * math.sin(cycle))
        pen.limb([(x - spoke[0], 0.19 - spoke[1]), (x + spoke[0], 0.19 + spoke[1])], 0.035, "ink")


def cat(pen: Pen, action: str, cycle: float) -> None:
    wag = 0.06 * math.sin(cycle)
    tail = [(-0.3, 0.02), (-0.42, -0.04), (-0.46, -0.18), (-0.4 + wag, -0.32), (-0.3 + 2 * wag, -0.38)]
    pen.limb(tail, 0.085, "base")
    _legs(pen, action, cycle, length=0.2, width=0.115)
    pen.oval(-0.03, 0.06, 0.34, 0.19, "base")
    for x in (-0.2, -0.08, 0.04):
        pen.limb([(x, -0.09), (x - 0.02, 0.05)], 0.045, "dark")
    x, y = _muzzle(action, cycle, (0.3, -0.14), (0.34, 0.2))
    for side in (-1, 1):  # pointed ears
        pen.polygon([(x + side * 0.2, y - 0.32), (x + side * 0.21, y - 0.04), (x + side * 0.03, y - 0.16)], "base")
        pen.polygon([(x + side * 0.18, y - 0.25), (x + side * 0.18, y - 0.1), (x + side * 0.08, y - 0.15)], "dark")
    pen.oval(x, y, 0.22, 0.19, "base")
    pen.oval(x + 0.03, y + 0.08, 0.1, 0.07, "light")
    for side in (-1, 1):
        _eye(pen, x + 0.02 + side * 0.085, y - 0.03)


def dog(pen: Pen, action: str, cycle: float) -> None:
    low = 0.1 if action == "crawling" else 0.0
    wag = 0.06 * math.sin(cycle)
    pen.limb([(-0.32, -0.02 + low), (-0.46 + wag, -0.24 + low)], 0.08, "base")
    _legs(pen, action, cycle, length=0.24, width=0.115)
    pen.polygon([(-0.38, -0.12 + low), (0.26, -0.14 + low), (0.32, 0.12 + low), (-0.36, 0.14 + low)], "base")
    pen.oval(-0.34, 0.01 + low, 0.1, 0.13, "base")
    pen.oval(-0.14, -0.02 + low, 0.12, 0.09, "dark", 0.3)
    x, y = _muzzle(action, cycle, (0.3, -0.24 + 2.4 * low), (0.34, 0.12))
    pen.limb([(0.24, -0.02 + low), (x, y)], 0.19, "base")
    pen.oval(x + 0.15, y + 0.06, 0.15, 0.085, "light", 0.1)  # a long snout
    pen.oval(x, y, 0.165, 0.155, "base")
    pen.oval(x + 0.28, y + 0.04, 0.04, 0.035, "ink")
    pen.oval(x - 0.11, y + 0.06, 0.07, 0.16, "dark", 0.25)  # a hanging ear
    _eye(pen, x + 0.06, y - 0.03)


FIGURES: dict[str, Callable[[Pen, str, float], None]] = {
    "adult": adult,
    "baby": baby,
    "ball": ball,
    "bird": bird,
    "car": car,
    "cat": cat,
    "dog": dog,
}
SCALES = {
    "adult": 1.12,
    "baby": 1.02,
    "ball": 0.98,
    "bird": 1.06,
    "car": 1.08,
    "cat": 1.06,
    "dog": 1.06,
}  # scales that give the figures similar areas


# ---- shared parts of figures


def _reach(start: Point, turn: float, length: float) -> Point:
    """Return the end of a limb of this length; it hangs down at turn 0 and swings forward as turn grows (radians)."""
    return start[0] + length * math.sin(turn), start[1] + length * math.cos(turn)


def _legs(pen: Pen, action: str, cycle: float, length: float, width: float) -> None:
    """Draw four legs; the far pair is darker and moves in the opposite phase."""
    swing = {"running": 1.0, "walking": 0.5, "climbing": 0.8, "crawling": 0.4}.get(action, 0.0) * math.sin(cycle)
    stretch = {"jumping": 0.95, "rolling": 0.35}.get(action, 0.0)
    low = 0.1 if action == "crawling" else 0.0
    for paint, side in (("dark", -1), ("base", 1)):
        for x, way in ((-0.25, -1), (0.21, 1)):
            hip = (x + 0.05 * side, 0.14 + low)
            turn = side * way * swing + way * stretch
            if action == "crawling":
                turn += way * 0.9
            pen.limb([hip, _reach(hip, turn, length * (0.8 if low else 1.0))], width, paint)


def _muzzle(action: str, cycle: float, up: Point, down: Point) -> Point:
    """Return the position of the head: `up`, or between `up` and `down` while the animal eats."""
    share = 0.62 + 0.38 * math.sin(cycle) if action == "eating" else 0.0
    return up[0] + share * (down[0] - up[0]), up[1] + share * (down[1] - up[1])


def _on_all_fours(pen: Pen, cycle: float, head: float, body: float, limb: float) -> None:
    """Draw a person on hands and knees."""
    swing = 0.4 * math.sin(cycle)
    for side, paint in ((-1, "dark"), (1, "base")):
        knee = _reach((-0.24, 0.08), side * swing, 0.22)
        pen.limb([(-0.24, 0.06), knee, (knee[0] - 0.2, knee[1] + 0.03)], limb, "dark")
        hand = _reach((0.14, 0.06), -side * swing, 0.27)
        pen.limb([(0.14, 0.04), hand], limb * 0.9, paint)
        pen.oval(*hand, 0.055, 0.055, "skin")
    pen.limb([(-0.24, 0.02), (0.14, 0.0)], 2 * body, "base")
    if head < 0.2:
        _face(pen, 0.33, -0.13, head)
    else:
        _bonnet(pen, 0.3, -0.16, head)


def _face(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.oval(x, y, radius, radius, "hair")
    pen.oval(x + 0.3 * radius, y + 0.2 * radius, 0.74 * radius, 0.76 * radius, "skin")
    _eye(pen, x + 0.55 * radius, y)


def _bonnet(pen: Pen, x: float, y: float, radius: float) -> None:
    """Draw a baby's large face in a bonnet of the figure's colour."""
    pen.oval(x, y, radius, radius, "base")
    pen.oval(x + 0.22 * radius, y + 0.14 * radius, 0.7 * radius, 0.72 * radius, "skin")
    for side in (-1, 1):
        _eye(pen, x + (0.24 + 0.3 * side) * radius, y + 0.05 * radius)
    pen.oval(x + 0.24 * radius, y + 0.5 * radius, 0.2 * radius, 0.13 * radius, "light")


def _eye(pen: Pen, x: float, y: float) -> None:
    pen.oval(x, y, 0.032, 0.038, "ink")
