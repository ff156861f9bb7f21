"""Conversion of features to scaled float16 and back; values that float16 cannot hold raise an error."""

import math

import numpy as np
from jaxtyping import Float16, Float32

LARGEST = float(np.finfo(np.float16).max)  # 65504
_UNSCALED_FROM = 1.0  # below it, the largest value is too close to float16's subnormal numbers (< 2**-14)
_SMALLEST_SCALE = 2.0**-126  # float32's smallest normal number

Half = Float16[np.ndarray, "..."]
Single = Float32[np.ndarray, "..."]


def to_float16(feature: Single, where: str) -> tuple[Half, float]:
    """Return one row's features divided by a scale, and the scale, a power of two.

    The scale is 1.0 if the largest magnitude is 0 or at least 1. Otherwise it brings the largest magnitude into
    [2**14, 2**15). Values of at least 2**-14 of the largest magnitude have a relative error of at most 2**-11, smaller
    ones an absolute error of at most 2**-25 of the largest magnitude; zeros stay zeros. `where` describes the features
    in messages. Raises FeatureOutOfRange if float16 cannot hold a value."""
    largest = float(np.abs(feature).max(initial=0.0))
    if not largest <= LARGEST:  # also true for NaN
        raise FeatureOutOfRange(
            f"{where} reach {largest:g}; float16 holds {LARGEST:g}. Check visual.weights and visual.batch_norm: the two"
            " may not belong together."
        )
    if largest == 0.0 or largest >= _UNSCALED_FROM:
        return feature.astype(np.float16), 1.0
    scale = max(math.ldexp(1.0, math.frexp(largest)[1] - 15), _SMALLEST_SCALE)
    return (feature * np.float32(1 / scale)).astype(np.float16), scale


def to_float32(half: Half, scale: float) -> Single:
    """Return the features that `to_float16` was given, up to rounding."""
    return half.astype(np.float32) * np.float32(scale)


class FeatureOutOfRange(ValueError):
    """Raised if float16 cannot hold a value of the features."""
