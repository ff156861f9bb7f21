"""Features as float16: half the bytes, 11 significant bits, and an error rather than a value that does not fit."""

import math

import numpy as np
from jaxtyping import Float16, Float32

LARGEST = float(np.finfo(np.float16).max)  # 65504
_UNSCALED_FROM = 1.0  # a largest value below it lies too near float16's subnormal numbers, those under 2**-14
_SMALLEST_SCALE = 2.0**-126  # float32's smallest normal number

Half = Float16[np.ndarray, "..."]
Single = Float32[np.ndarray, "..."]


def to_float16(feature: Single, where: str) -> tuple[Half, float]:
    """One row's features divided by a scale, and the scale: a power of two; 1.0 where the largest magnitude is at least
    1 or all are zero, else such that it comes to lie in [2**14, 2**15).

    Every value of at least 2**-14 of the row's largest magnitude is kept with a relative error of at most 2**-11, every
    other with an absolute one of at most 2**-25 of the largest; zeros stay zeros. `where` says whose features they are,
    and after what. Raises FeatureOutOfRange where float16 cannot hold a value."""
    largest = float(np.abs(feature).max(initial=0.0))
    if not largest <= LARGEST:  # also where it is not a number
        raise FeatureOutOfRange(
            f"{where} reach {largest:g}; float16 holds {LARGEST:g}. Check visual.weights and visual.batch_norm: the two"
            " may not belong together."
        )
    if largest == 0.0 or largest >= _UNSCALED_FROM:
        return feature.astype(np.float16), 1.0
    scale = max(math.ldexp(1.0, math.frexp(largest)[1] - 15), _SMALLEST_SCALE)
    return (feature * np.float32(1 / scale)).astype(np.float16), scale


def to_float32(half: Half, scale: float) -> Single:
    """What `halved` was given, up to its rounding."""
    return half.astype(np.float32) * np.float32(scale)


class FeatureOutOfRange(ValueError):
    """Features that float16 cannot hold."""
