"""Optical flow of letterboxed clips, the input of the flow stream of I3D."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from data.wording import counted

METHODS = ("dis", "tvl1")

Picture = UInt8[np.ndarray, "s s"]


def flow_fields(
    frames: UInt8[np.ndarray, "t s s 3"], following: UInt8[np.ndarray, "s s 3"] | None, method: str, bound: float
) -> Float32[np.ndarray, "t s s 2"]:
    """Compute the flow of a clip (RGB) in [-1, 1]; field k maps pixels of frame k to their positions in frame k + 1.

    Displacements are in pixels of these frames, x (to the right) before y (downwards); they are clipped to [-bound,
    bound] and divided by `bound` (20 is usual in two-stream networks). The last field leads to `following`, the frame
    after the clip; if that is None (end of the video), it repeats the field before it. `method` is "dis", OpenCV's DIS
    with its medium preset (frames of at least 12 pixels), or "tvl1", its TV-L1 with default parameters; both use grey
    images. The result does not depend on OpenCV's number of threads, but it differs on CPUs without AVX2.
    Raises UnknownFlow, FlowUnavailable, ImpossibleBound, NoMotion."""
    if not 0 < bound < np.inf:
        raise ImpossibleBound(f"flow bound {bound}: expected a positive number of pixels, such as 20.")
    if len(frames) == 0 or (len(frames) == 1 and following is None):
        after = "none" if following is None else "one"
        raise NoMotion(
            f"flow of a clip of {counted(len(frames), 'frame')} and {after} after it: expected a first and a second."
        )
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
    # Each clip gets a new object, because DIS keeps the coarsest scale of the smallest image that it has seen. Images
    # of one size do not affect each other, and reusing the buffers within a clip saves 6 % of the time.
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
    """Raised if a flow method does not exist."""


class FlowUnavailable(RuntimeError):
    """Raised if the installed OpenCV does not have the flow method."""


class ImpossibleBound(ValueError):
    """Raised if the bound of the flow is not a positive finite number of pixels."""


class NoMotion(ValueError):
    """Raised if a clip has no second frame for the flow."""
