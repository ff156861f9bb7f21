"""The metric of referring video object segmentation: J, F and their mean J&F (Perazzi et al., CVPR 2016, DAVIS).

J, the region similarity, is the intersection over union of the predicted and the true mask. F, the boundary measure, is
the harmonic mean of the precision and the recall of the predicted contour: a pixel of one contour counts as right if a
pixel of the other one lies within 0.008 times the frame's diagonal, rounded up to whole pixels. DAVIS matches contours
by dilating them with a disk, and so does this module. Its constants and its contours are those of davis2017-evaluation
(`davis2017/metrics.py`); the tests compare it with the package vos-benchmark, which copies them. A contour is dilated
as one integer, of whose bits each is a pixel, so that a few shifts move all pixels at once.

J is 1 if both masks are empty and 0 if only one is. F is 1 if both contours are empty and 0 if only one is. A mask that
fills its frame has no contour: compared with an empty mask it has J = 0 and F = 1.

The frames of an expression are averaged first, then the expressions, J and F each for itself; J&F is the mean of the
two. For Ref-DAVIS17 this is done for each of its four annotators, and the four results are averaged.

Every frame that is given counts. The protocol of DAVIS in which a method is shown the first mask, and which
vos-benchmark follows by default, leaves out the first and the last frame of a video; a sentence shows no mask, so none
is left out here unless the caller does. Unlike vos-benchmark, which counts an object only from the first frame that
shows or predicts it, this module counts a frame in which both masks are empty wherever it stands, as DAVIS does.

An expression is compared with its own object only. The published numbers of Ref-DAVIS17 that were computed with
`eval_davis.py` of ReferFormer (Wu et al., CVPR 2022) use the task "unsupervised" of davis2017-evaluation, which
assigns the predicted objects of a video to the true ones so that J&F is highest: a network that confuses two objects
loses nothing there, and it does here. ReferFormer's `inference_davis.py` also gives each pixel to the likeliest of one
annotator's expressions beforehand, so that their masks do not overlap. Pixels that the true masks of DAVIS mark as void
(255), which davis2017-evaluation leaves out, are not known here.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from data.masks import RunLengths, decode_rle
from data.wording import counted
from models.evaluation.metrics import FrameSizeMismatch, NoSamples, UnequalCounts

TOLERANCE = 0.008  # of the frame's diagonal; `bound_th` of davis2017-evaluation
REF_DAVIS17_ANNOTATORS = 4
WINDOW = np.ones((2, 2), np.uint8)  # a pixel, and its neighbours to the right, below and diagonally below

Pixels = UInt8[np.ndarray, "_ _"]
Mask = Pixels | RunLengths
"""A mask as pixels, 0 or another number for the object, or as run lengths."""


@dataclass(frozen=True)
class RegionBoundary:
    """J (`region`) and F (`boundary`), in [0, 1], of one frame or averaged."""

    region: float
    boundary: float

    @property
    def mean(self) -> float:
        """Return J&F."""
        return (self.region + self.boundary) / 2


def frame_scores(prediction: Mask, truth: Mask) -> RegionBoundary:
    """Return J and F of one frame. Raises FrameSizeMismatch."""
    found, true = _pixels(prediction), _pixels(truth)
    if found.shape != true.shape:
        raise FrameSizeMismatch(
            f"Predicted mask of {found.shape} pixels, expected the truth's {true.shape}. Restore it first."
        )
    radius = math.ceil(TOLERANCE * math.hypot(*true.shape))  # of the frame, before it is cropped
    found, true = _cropped(found, true)
    return RegionBoundary(_region_similarity(found, true), _boundary_measure(found, true, radius))


def expression_scores(frames: Iterable[tuple[Mask, Mask]]) -> RegionBoundary:
    """Return the means over the frames of one expression, given as pairs of predicted and true mask.

    The pairs are taken one by one, and none is kept. Raises FrameSizeMismatch, and NoSamples if there is no frame.
    """
    return _mean((frame_scores(prediction, truth) for prediction, truth in frames), "frame")


def mean_of_expressions(expressions: Iterable[RegionBoundary]) -> RegionBoundary:
    """Return the means over expressions; each counts the same, however many frames it has. Raises NoSamples."""
    return _mean(expressions, "expression")


def mean_of_annotators(annotators: Sequence[RegionBoundary]) -> RegionBoundary:
    """Return the scores of Ref-DAVIS17 from the means over the expressions of each annotator. Raises UnequalCounts."""
    if len(annotators) != REF_DAVIS17_ANNOTATORS:
        found = counted(len(annotators), "annotator")
        raise UnequalCounts(
            f"Ref-DAVIS17: scores of {found}, expected {REF_DAVIS17_ANNOTATORS}. Score each one's expressions."
        )
    return _mean(annotators, "annotator")


def contour(mask: Pixels) -> Pixels:
    """Return the contour {0, 1} of a mask {0, 1}, as `seg2bmap` of DAVIS and of the Berkeley benchmark defines it.

    A pixel belongs to it if its neighbour to the right, below or diagonally below differs; beyond the frame there are
    no neighbours. So a contour lies half a pixel up and left of the edge, and the frame's border is none.
    """
    return cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, WINDOW, anchor=(0, 0))


def _pixels(mask: Mask) -> Pixels:
    return mask if isinstance(mask, np.ndarray) else decode_rle(mask)


def _cropped(found: Pixels, true: Pixels) -> tuple[Pixels, Pixels]:
    """Return the masks as {0, 1} in the smallest box that holds both, and one pixel around it inside the frame.

    Both contours lie in it unchanged, and a pixel of a contour is matched by pixels of the other one alone.
    """
    left, top, width, height = cv2.boundingRect(found | true)
    box = slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)
    return _zero_or_one(found[box]), _zero_or_one(true[box])


def _zero_or_one(mask: Pixels) -> Pixels:
    return np.ascontiguousarray(mask != 0).view(np.uint8)


def _region_similarity(found: Pixels, true: Pixels) -> float:
    union = cv2.countNonZero(found | true)
    return cv2.countNonZero(found & true) / union if union else 1.0


def _boundary_measure(found: Pixels, true: Pixels, radius: int) -> float:
    stride = found.shape[1] + radius
    ours, theirs = _bits(contour(found), stride), _bits(contour(true), stride)
    if not ours or not theirs:
        return float(ours == theirs)
    precision = (ours & _dilated(theirs, radius, stride)).bit_count() / ours.bit_count()
    recall = (theirs & _dilated(ours, radius, stride)).bit_count() / theirs.bit_count()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _bits(pixels: Pixels, stride: int) -> int:
    """Return pixels {0, 1} as the bits of one integer: `stride` bits a row, of which those past the width are 0."""
    rows = np.zeros((pixels.shape[0], stride), np.uint8)
    rows[:, : pixels.shape[1]] = pixels
    return int.from_bytes(np.packbits(rows).tobytes(), "big")


def _dilated(bits: int, radius: int, stride: int) -> int:
    """Return the pixels within `radius` of those that are set, and some of the bits between the rows.

    A disk is the union of its rows. So the pixels are widened to each row's length, from the disk's shortest rows to
    its middle, and moved up and down by the row's height. The time is proportional to the radius; that of `cv2.dilate`
    is to its square.
    """
    dilated, wide, reach = 0, bits, 0
    for height in range(radius, -1, -1):
        while (reach + 1) ** 2 + height**2 <= radius**2:
            wide, reach = wide | wide << 1 | wide >> 1, reach + 1
        dilated |= wide << height * stride | wide >> height * stride
    return dilated


def _mean(scores: Iterable[RegionBoundary], unit: str) -> RegionBoundary:
    count, region, boundary = 0, 0.0, 0.0
    for each in scores:
        count, region, boundary = count + 1, region + each.region, boundary + each.boundary
    if not count:
        raise NoSamples(f"No {unit} to score, expected one or more. Check the split and the data set's exclusions.")
    return RegionBoundary(region / count, boundary / count)
