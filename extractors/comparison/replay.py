"""Replay of the extraction of a clip's visual features by a recipe whose steps can be changed one by one."""

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

SHIFTS = (-8, -4, -2, -1, 1, 2, 4, 8)  # frames, added to the recipe's own shift
GEOMETRIES = ("letterbox", "crop", "stretch")
COLOURS = ("rgb", "bgr")
SCALINGS = ("[-1, 1]", "[0, 1]", "[0, 255]", "imagenet")
BOUNDS = (10.0, 15.0, 20.0, 32.0, None)
EPSILONS = (1e-5, 1e-4, 1e-3)
ARITHMETICS = ("float32", "bfloat16")
ROUNDINGS = ("float32", "float16", "bfloat16")

UNCLIPPED_DIVISOR = 20.0  # the divisor of displacements that are not clipped
_FAR = 2.0**16  # pixels; a power of two, so that dividing by it and multiplying again is exact

Features = Float32[np.ndarray, "c t2 h2 w2"]
Frames = UInt8[np.ndarray, "n h w 3"]
Square = UInt8[np.ndarray, "s s 3"]

# The steps in the order in which they are applied, and their names in reports.
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
    """The steps from the frames of a video to the features of a clip. Raises UnknownStep."""

    shift: int  # frames; 0: the clip starts length // 2 frames before the labelled one
    geometry: str  # "letterbox"; "crop": cover the square, crop the centre; "stretch": ignore the aspect ratio
    colours: str  # "rgb"; "bgr": red and blue swapped
    scaling: str  # of pixels or clipped flow; "imagenet", for pixels only: by its mean and standard deviation
    bound: float | None  # pixels, for flow only: displacements are clipped to it and divided by it; None: no clipping
    eps: float  # of the batch norms
    tap: str  # the layer whose output is taken
    arithmetic: str  # the dtype in which the trunk computes
    rounding: str  # of the output: "float16" as in the store, "bfloat16", or "float32" for none

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
        """Return the steps by their names in reports."""
        return {name: getattr(self, step) for step, name in STAGES.items()}


@dataclass(frozen=True)
class RawClip:
    """A labelled frame and the decoded frames (RGB) around it, as many as any recipe may need.

    `name` is used in messages. `first` is the index in the video of the first frame in `frames`; `count` is the number
    of frames of the whole video, `labelled` the index of the labelled frame (from 0), `length` the length of a clip."""

    name: str
    frames: Frames
    first: int
    count: int
    labelled: int
    length: int

    def window(self, shift: int) -> Frames:
        """Return the clip shifted by `shift` frames; edge frames of the video repeat. Raises FramesMissing."""
        return np.stack([self._frame(index) for index in self._indices(shift)])

    def following(self, shift: int) -> UInt8[np.ndarray, "h w 3"] | None:
        """Return the frame after this clip; None if the video has no frame after it. Raises FramesMissing."""
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
        frame: np.ndarray = self.frames[place]
        return frame


def needed(labelled: int, length: int, count: int) -> range:
    """Return the indices of the frames that are needed to replay every candidate of a recipe without a shift."""
    start, reach = labelled - length // 2, max(SHIFTS)
    return range(max(start - reach, 0), min(start + length + reach + 1, count))  # + 1: the last flow field needs it


def candidates(recipe: Recipe, video: Backbone) -> Iterator[tuple[str, Recipe]]:
    """Yield every recipe that differs in one step, with the name of this step, in the order of STAGES.

    Recipes that the backbone's device cannot compute are left out: CPUs made before 2019 have no bfloat16."""
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
    """Return the steps in which two recipes differ, by name and in order, with both values."""
    pairs = ((name, getattr(base, step), getattr(other, step)) for step, name in STAGES.items())
    return {name: (own, its) for name, own, its in pairs if own != its}


class Replayer:
    """Extraction of features by any recipe, from frames in squares of `size` pixels, on the device of `video`.

    Each clip is padded with zeros to a batch of `batch` clips. `method` is the flow method of `extractors.video.flow`.
    `video` is not changed: one copy is kept as given, and one folded for the eps and arithmetic of the last recipe.
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
        """Return the clip's features; with the recipe, batch and threads of a run, they equal its stored features.

        Raises FramesMissing; FeatureOutOfRange if a value is too large for rounding to float16."""
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
            self._folded = None  # freed first, so that there are never three copies
            for norm in self._norms:
                norm.eps = eps
            self._folded = fold_batch_norm(self.video, getattr(torch, arithmetic))
            self._folded_for = (eps, arithmetic)
        return self._folded


def square(frame: UInt8[np.ndarray, "h w 3"], size: int, geometry: str) -> Square:
    """Map the frame into a square by one of GEOMETRIES, resized bilinearly."""
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
    """Scale pixels to the range that one of SCALINGS names."""
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
    """Scale flow, which is in [-1, 1] if clipped, to the range that one of SCALINGS names. Raises UnknownStep."""
    flow = rearrange(fields, "b t h w c -> b c t h w").float()
    if scaling == "imagenet":
        raise UnknownStep("scaling 'imagenet': flow has no colours; expected one of the other three.")
    if scaling == "[-1, 1]":
        return flow
    return (flow + 1) * (0.5 if scaling == "[0, 1]" else 127.5)


def rounded(features: Features, rounding: str, where: str) -> Features:
    """Round the features by one of ROUNDINGS; `where` describes them in messages.

    Raises FeatureOutOfRange."""
    if rounding == "float16":
        return to_float32(*to_float16(features, where))
    if rounding == "bfloat16":
        return torch.from_numpy(features).bfloat16().float().numpy()
    return features


class UnknownStep(ValueError):
    """Raised if a step of a recipe has an unknown value."""


class FramesMissing(ValueError):
    """Raised if a clip needs frames that were not decoded."""


class AlreadyFolded(ValueError):
    """Raised if the batch norms of a backbone are already folded."""
