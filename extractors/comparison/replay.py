"""How a clip's visual features come from the frames of a video: as a recipe, one step of which can be changed."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float16, Float32, UInt8
from torch import Tensor, nn

from data.letterbox import Letterbox
from extractors.shards.float16 import to_float16, to_float32
from extractors.video.decoder import clip_indices
from extractors.video.flow import flow_fields
from models.backbones.backbone import Backbone
from models.backbones.folded_batch_norm import FoldedUnit, fold_batch_norm
from models.backbones.i3d import to_unit_range
from models.backbones.resnet import IMAGENET_DEVIATION, IMAGENET_MEAN

SHIFTS = (-8, -4, -2, -1, 1, 2, 4, 8)  # frames more than the recipe's own
GEOMETRIES = ("letterbox", "crop", "stretch")
COLOURS = ("rgb", "bgr")
SCALINGS = ("[-1, 1]", "[0, 1]", "[0, 255]", "imagenet")
BOUNDS = (10.0, 15.0, 20.0, 32.0, None)
EPSILONS = (1e-5, 1e-4, 1e-3)
ARITHMETICS = ("float32", "bfloat16")
ROUNDINGS = ("float32", "float16", "bfloat16")

UNCLIPPED_DIVISOR = 20.0  # what displacements that are not clipped are divided by
_FAR = 2.0**16  # pixels; a power of two, so that the way there and back is exact

Features = Float32[np.ndarray, "c t2 h2 w2"]
Frames = UInt8[np.ndarray, "n h w 3"]
Square = UInt8[np.ndarray, "s s 3"]

# The steps in the order in which a frame meets them, and what people call them.
STAGES = {
    "shift": "frame index",
    "geometry": "geometry",
    "colours": "colour order",
    "scaling": "scaling",
    "bound": "flow clipping",
    "eps": "batch norm eps",
    "tap": "tap",
    "arithmetic": "arithmetic",
    "rounding": "rounding",
}


@dataclass(frozen=True)
class Recipe:
    """What is done to the frames of a video, step by step. Raises UnknownStep."""

    shift: int  # frames; 0: from length // 2 before the labelled frame on
    geometry: str  # "letterbox"; "crop": the centre of the frame that fills the square; "stretch": no aspect kept
    colours: str  # "rgb"; "bgr": red and blue swapped
    scaling: str  # of pixels, or of clipped flow; "imagenet": mean and deviation of its RGB, of pixels only
    bound: float | None  # pixels, of flow only: displacements are clipped to it and divided by it; None: not clipped
    eps: float  # of the batch norms
    tap: str  # the layer whose output is taken
    arithmetic: str  # what the trunk computes in
    rounding: str  # of its output: "float16" as the store does it, "bfloat16", or "float32" for none

    def __post_init__(self) -> None:
        for step, known in {
            "geometry": GEOMETRIES,
            "colours": COLOURS,
            "scaling": SCALINGS,
            "arithmetic": ARITHMETICS,
            "rounding": ROUNDINGS,
        }.items():
            if getattr(self, step) not in known:
                raise UnknownStep(f"{step} {getattr(self, step)!r}: expected one of {', '.join(map(repr, known))}.")

    def document(self) -> dict[str, Any]:
        """The steps by their names for people."""
        return {name: getattr(self, step) for step, name in STAGES.items()}


@dataclass(frozen=True)
class RawClip:
    """A labelled frame and the decoded frames (RGB) around it, as many as any recipe may need.

    `name` is for messages. `first` is the index in the video of the first frame here; `count` is the number of frames
    that the whole video has, `labelled` the index from 0 of the labelled one, `length` that of a clip."""

    name: str
    frames: Frames
    first: int
    count: int
    labelled: int
    length: int

    def window(self, shift: int) -> Frames:
        """The clip that starts `shift` frames later, edge frames of the video repeated. Raises FramesMissing."""
        return np.stack([self._frame(index) for index in self._indices(shift)])

    def following(self, shift: int) -> UInt8[np.ndarray, "h w 3"] | None:
        """The frame after that clip, None where the video ends with it or in it. Raises FramesMissing."""
        after = self._indices(shift)[-1] + 1
        return self._frame(after) if after < self.count else None

    def _indices(self, shift: int) -> tuple[int, ...]:
        margin = abs(shift)
        wide = clip_indices(self.labelled, self.length + 2 * margin, self.count)
        return wide[margin + shift :][: self.length]

    def _frame(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        place = index - self.first
        if not 0 <= place < len(self.frames):
            raise FramesMissing(
                f"clip {self.name}: frame {index + 1} is needed, but frames {self.first + 1} to "
                f"{self.first + len(self.frames)} were decoded. Decode `needed(labelled, length, count)`."
            )
        return self.frames[place]


def needed(labelled: int, length: int, count: int) -> range:
    """The indices of the frames from which every candidate of a recipe without a shift can be replayed."""
    start, reach = labelled - length // 2, max(SHIFTS)
    return range(max(start - reach, 0), min(start + length + reach + 1, count))  # one more: flow leads to it


def candidates(recipe: Recipe, video: Backbone) -> Iterator[tuple[str, Recipe]]:
    """Every recipe that differs in one step, with the name of that step, in the order of STAGES.

    Without those that the backbone's device cannot compute: CPUs of before 2019 have no bfloat16."""
    flow = video.modality == "flow"
    others: dict[str, tuple[Any, ...]] = {
        "shift": tuple(recipe.shift + more for more in SHIFTS),
        "geometry": GEOMETRIES,
        "colours": COLOURS,
        "scaling": SCALINGS[:3] if flow else SCALINGS,
        "bound": BOUNDS if flow else (),
        "eps": EPSILONS,
        "tap": tuple(video.channels),
        "arithmetic": ARITHMETICS if _has_bfloat16(next(video.parameters()).device) else ARITHMETICS[:1],
        "rounding": ROUNDINGS,
    }
    for step, name in STAGES.items():
        for value in others[step]:
            if value != getattr(recipe, step):
                yield name, replace(recipe, **{step: value})


def _has_bfloat16(device: torch.device) -> bool:
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def changes(base: Recipe, other: Recipe) -> dict[str, tuple[Any, Any]]:
    """By the names of the steps in which two recipes differ, in order, the values of both."""
    pairs = ((name, getattr(base, step), getattr(other, step)) for step, name in STAGES.items())
    return {name: (own, its) for name, own, its in pairs if own != its}


class Replayer:
    """Extracts features again, by any recipe, from square frames of `size`, `batch` clips at a time (a clip and zeros),
    on the device of `video`, which stays as it is. `method` is the one of the flow, see `extractors.video.flow`.

    It holds the backbone twice: as given, and folded for the eps and the arithmetic of the last recipe.
    Raises AlreadyFolded."""

    def __init__(self, video: Backbone, size: int, batch: int, method: str = "dis") -> None:
        self.video = copy.deepcopy(video).float().eval()
        self._norms = [part for part in self.video.modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d)]
        if not self._norms or any(isinstance(part, FoldedUnit) for part in self.video.modules()):
            raise AlreadyFolded("a backbone without batch norms, whose eps cannot be changed: give the one not folded.")
        self._size, self._batch, self._method = size, batch, method
        self._folded: Backbone | None = None
        self._folded_for: tuple[float, str] | None = None

    def features(self, clip: RawClip, recipe: Recipe) -> Features:
        """The clip's features. By the recipe of a run, with its batch and threads, they are those that it stored.

        Raises FramesMissing, and FeatureOutOfRange where they are rounded to float16 and too large for it."""
        trunk = self._trunk(recipe.eps, recipe.arithmetic)
        weight = next(trunk.parameters())
        images = self._images(clip, recipe, weight.device).to(weight.dtype)
        images = torch.cat([images, images.new_zeros((self._batch - 1, *images.shape[1:]))])
        with torch.inference_mode():
            features = trunk.trunk(images, recipe.tap)[0].float().cpu().numpy()
        return rounded(features, recipe.rounding, f"clip {clip.name}: features after {recipe.tap}")

    def _images(self, clip: RawClip, recipe: Recipe, device: torch.device) -> Float[Tensor, "1 image t s s"]:
        frames = self._squares(clip.window(recipe.shift), recipe)
        if self.video.modality == "rgb":
            return scaled_pixels(torch.from_numpy(frames[None]).to(device), recipe.scaling)
        after = clip.following(recipe.shift)
        following = None if after is None else self._squares(after[None], recipe)[0]
        clipping, divisor = (_FAR, UNCLIPPED_DIVISOR) if recipe.bound is None else (recipe.bound, recipe.bound)
        fields = flow_fields(frames, following, self._method, clipping) * np.float32(clipping / divisor)
        stored = torch.from_numpy(fields[None]).half()
        return scaled_flow(stored.to(device), recipe.scaling)

    def _squares(self, frames: Frames, recipe: Recipe) -> UInt8[np.ndarray, "n s s 3"]:
        squares = np.stack([square(frame, self._size, recipe.geometry) for frame in frames])
        return squares if recipe.colours == "rgb" else np.ascontiguousarray(squares[..., ::-1])

    def _trunk(self, eps: float, arithmetic: str) -> Backbone:
        if self._folded is None or self._folded_for != (eps, arithmetic):
            self._folded = None  # first, so that there are never three
            for norm in self._norms:
                norm.eps = eps
            self._folded = fold_batch_norm(self.video, getattr(torch, arithmetic))
            self._folded_for = (eps, arithmetic)
        return self._folded


def square(frame: UInt8[np.ndarray, "h w 3"], size: int, geometry: str) -> Square:
    """The frame in a square, bilinear, by one of GEOMETRIES."""
    height, width = frame.shape[:2]
    if geometry == "letterbox":
        return Letterbox(height, width, size).image(frame)
    if geometry == "stretch":
        return cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR)
    scale = max(size / height, size / width)
    rows, columns = round(height * scale), round(width * scale)
    top, left = (rows - size) // 2, (columns - size) // 2
    return cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_LINEAR)[top : top + size, left : left + size]


def scaled_pixels(frames: UInt8[Tensor, "b t s s 3"], scaling: str) -> Float[Tensor, "b 3 t s s"]:
    """Pixels in the range that one of SCALINGS names."""
    if scaling == "[-1, 1]":
        return to_unit_range(frames)
    pixels = rearrange(frames, "b t h w c -> b c t h w").float()
    if scaling == "[0, 255]":
        return pixels
    if scaling == "[0, 1]":
        return pixels / 255
    mean, deviation = (rearrange(pixels.new_tensor(of), "c -> c 1 1 1") for of in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (pixels / 255 - mean) / deviation


def scaled_flow(fields: Float16[Tensor, "b t s s 2"], scaling: str) -> Float[Tensor, "b 2 t s s"]:
    """Flow, in [-1, 1] where it is clipped, in the range that one of SCALINGS names. Raises UnknownStep."""
    flow = rearrange(fields, "b t h w c -> b c t h w").float()
    if scaling == "imagenet":
        raise UnknownStep("scaling 'imagenet': flow has no colours; expected one of the other three.")
    if scaling == "[-1, 1]":
        return flow
    return (flow + 1) * (0.5 if scaling == "[0, 1]" else 127.5)


def rounded(features: Features, rounding: str, where: str) -> Features:
    """The features with the significant bits that one of ROUNDINGS has; `where` says whose they are.

    Raises FeatureOutOfRange."""
    if rounding == "float16":
        return to_float32(*to_float16(features, where))
    if rounding == "bfloat16":
        return torch.from_numpy(features).bfloat16().float().numpy()
    return features


class UnknownStep(ValueError):
    """A way to do a step of a recipe that there is none of."""


class FramesMissing(ValueError):
    """A clip that needs frames that were not decoded."""


class AlreadyFolded(ValueError):
    """A backbone that has lost its batch norms."""
