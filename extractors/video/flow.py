"""Optical flow of letterboxed clips: what the flow stream of I3D reads."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

METHODS = ("dis", "tvl1")

Picture = UInt8[np.ndarray, "s s"]


def flow_fields(
    frames: UInt8[np.ndarray, "t s s 3"], following: UInt8[np.ndarray, "s s 3"] | None, method: str, bound: float
) -> Float32[np.ndarray, "t s s 2"]:
    """The flow of a clip (RGB) in [-1, 1]: field k says where the pixels of frame k are in frame k + 1.

    Displacements in pixels of these frames, x to the right before y downwards, clipped to `bound` on both sides and
    divided by it (20 in the practice of two-stream networks). The last field leads to the frame after the clip,
    `following`; at the end of a video (None) it repeats the field before it. On grey pictures, by OpenCV's DIS at its
    medium preset ("dis", frames of 12 pixels or more) or its TV-L1 with its defaults ("tvl1"). The same bits
    for any number of OpenCV's threads; a CPU without AVX2 gives others.
    Raises UnknownFlow, FlowUnavailable, ImpossibleBound, NoMotion.
    """
    if not 0 < bound < np.inf:
        raise ImpossibleBound(f"flow bound {bound}: expected a positive number of pixels, such as 20.")
    if len(frames) == 0 or (len(frames) == 1 and following is None):
        after = "none" if following is None else "one"
        raise NoMotion(f"flow of a clip of {len(frames)} frames and {after} after it: expected a first and a second.")
    pictures = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    if following is not None:
        pictures.append(cv2.cvtColor(following, cv2.COLOR_RGB2GRAY))
    fields = np.empty((*frames.shape[:3], 2), np.float32)
    for place, displacements in enumerate(_displacements(pictures, method)):
        fields[place] = np.clip(displacements, -bound, bound) / bound
    if following is None:
        fields[-1] = fields[-2]
    return fields


def _displacements(pictures: list[Picture], method: str) -> Iterator[Float32[np.ndarray, "s s 2"]]:
    # A new object for each clip: DIS keeps the coarsest scale of the smallest picture that it has seen. Among pictures
    # of one size nothing is carried over, and buffers that are used again save 6 %.
    flow = _algorithm(method)
    for first, second in pairwise(pictures):
        yield flow.calc(first, second, None)


def _algorithm(method: str) -> Any:
    if method not in METHODS:
        raise UnknownFlow(f"flow method {method!r}: expected one of {', '.join(METHODS)}.")
    if method == "dis":
        return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if not hasattr(cv2, "optflow"):
        raise FlowUnavailable(
            f"flow method 'tvl1': OpenCV {cv2.__version__} as installed has no module optflow. Install "
            "opencv-contrib-python-headless in place of opencv-python-headless, or take 'dis'."
        )
    return cv2.optflow.DualTVL1OpticalFlow_create()


class UnknownFlow(ValueError):
    """A way to compute flow that does not exist."""


class FlowUnavailable(RuntimeError):
    """A way to compute flow that the installed OpenCV does not have."""


class ImpossibleBound(ValueError):
    """A bound of the flow that is no positive number of pixels."""


class NoMotion(ValueError):
    """A clip without a second frame to flow to."""
