"""A generated dataset in the layout of J-HMDB with JHMDB-Sentences (see `data.readers.jhmdb`).

Each clip shows one actor of a scene of `data.miniature.scenes`, in frames of aspect ratio 4:3 like those of J-HMDB.
The video names contain brackets and special characters as in J-HMDB. The first clip has more pictures than masks.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from jaxtyping import UInt8

from data.miniature import scenes as drawn
from data.miniature.a2d_layout import FolderNotEmpty
from data.miniature.drawing import pictures
from data.miniature.scenes import BadSpec, Scene

__all__ = ["DEFAULT", "BadSpec", "Clip", "FolderNotEmpty", "Spec", "clips", "write"]

BEYOND = 2  # number of pictures of the first clip after its last mask
SHORTEST, LONGEST = 15, 40  # frames of a clip, as in J-HMDB
_ACTIONS = {
    "climbing": "climb",
    "crawling": "crawl",
    "eating": "eat",
    "flying": "fly",
    "jumping": "jump",
    "rolling": "roll",
    "running": "run",
    "walking": "walk",
    "none": "stand",
}
_TITLES = ("Clip_(1)_-_Final!", "My_@2_Home+Video", "plain")
_HEADER = b"MATLAB 5.0 MAT-file, Platform: miniature"
_TEXT_BYTES = 116  # the text in a MATLAB file's header; scipy writes the date there


@dataclass(frozen=True)
class Spec:
    """The number and size of the clips; the same spec always gives the same bytes."""

    seed: int
    clips: int
    width: int  # pixels; the height is three quarters of it
    frames: int  # of the longest clip

    def __post_init__(self) -> None:
        if self.width < 64 or self.width % 8:
            raise BadSpec(f"J-HMDB miniature: width {self.width} px; expected at least 64, a multiple of 8.")
        if not SHORTEST <= self.frames <= LONGEST:
            raise BadSpec(f"J-HMDB miniature: {self.frames} frames; expected {SHORTEST} to {LONGEST}, as in J-HMDB.")
        if self.clips < 1:
            raise BadSpec(f"J-HMDB miniature: {self.clips} clips; expected one or more.")

    @property
    def height(self) -> int:
        """Height of a frame in pixels."""
        return self.width * 3 // 4


DEFAULT = Spec(seed=0, clips=5, width=96, frames=24)


@dataclass(frozen=True)
class Clip:
    """One video to be drawn. Its frames are those of the scene; the first `masks` of them have masks."""

    id: str
    action: str
    scene: Scene
    masks: int

    @property
    def sentence(self) -> str:
        """The sentence of the clip before cleaning."""
        return self.scene.sentences[0].text


def clips(spec: Spec) -> tuple[Clip, ...]:
    """Return all videos of the dataset, in the order of their sentences."""
    return tuple(_clip(spec, index, scene) for index, scene in enumerate(islice(_alone(spec), spec.clips)))


def write(root: Path, spec: Spec, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the dataset into `root`, which must be empty or not exist; call `progress(done, total)` after each clip.

    The bytes depend only on the spec and the versions of OpenCV and SciPy. The text file is written last, so an
    incomplete dataset cannot be read. Raises FolderNotEmpty."""
    root = Path(root)
    if root.exists() and any(root.iterdir()):
        raise FolderNotEmpty(f"J-HMDB miniature: {root} is not empty. Give an empty folder, or remove it.")
    found = clips(spec)
    for done, clip in enumerate(found, start=1):
        _write_clip(root, spec, clip)
        if progress is not None:
            progress(done, len(found))
    rows = ["video_id,query", *(f"{clip.id},{clip.sentence}" for clip in found)]
    (root / "jhmdb_annotation.txt").write_bytes("".join(f"{row}\n" for row in rows).encode())


def _alone(spec: Spec) -> Iterator[Scene]:
    """Yield scenes with one actor.

    A larger A2D miniature begins with the scenes of a smaller one, so its size is doubled until enough are found."""
    seen = 0
    for power in count():
        frames = max(spec.frames, 24)  # the minimum of an A2D miniature
        wanted = drawn.Spec(spec.seed, 0, 2**power * len(drawn.DECK), spec.width, frames, 1)
        single = [scene for scene in drawn.scenes(wanted) if len(scene.actors) == 1]
        yield from single[seen:]
        seen = len(single)


def _clip(spec: Spec, index: int, scene: Scene) -> Clip:
    masks = max(SHORTEST, spec.frames - 3 * (index % 4))
    action = _ACTIONS[scene.actors[0].action]
    name = f"{_TITLES[index % len(_TITLES)]}_{action}_f_cm_np1_fr_med_{index}"
    return Clip(name, action, replace(scene, frames=masks + BEYOND * (index == 0)), masks)


def _write_clip(root: Path, spec: Spec, clip: Clip) -> None:
    images = root / "Rename_Images" / clip.action / clip.id
    masks = root / "puppet_mask" / clip.action / clip.id
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    above = (spec.width - spec.height) // 2  # scenes are square: crop the top and the bottom
    rows = slice(above, above + spec.height)
    visible = []
    for number, picture in enumerate(pictures(clip.scene, spec.width), start=1):
        (images / f"{number:05d}.png").write_bytes(_png(picture.image[rows]))
        visible.append(picture.masks[0, rows])
    (masks / "puppet_mask.mat").write_bytes(_mat(np.stack(visible[: clip.masks], axis=2)))


def _png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    encoded: bytes = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    return encoded


def _mat(masks: UInt8[np.ndarray, "h w t"]) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"part_mask": masks}, do_compression=True)
    return _HEADER.ljust(_TEXT_BYTES) + file.getvalue()[_TEXT_BYTES:]
