"""Features as float16: ordinary ones as they are, small ones scaled, and none that does not fit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from extractors.shards.float16 import FeatureOutOfRange, to_float16, to_float32

WHERE = "clip 7: features after mixed_4e"


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_small_features_are_scaled_by_a_power_of_two() -> None:
    half, scale = to_float16(row(0, 2**-20, -3 * 2**-20), WHERE)
    assert scale == 2**-33  # 3 * 2**-20 comes to lie in [2**14, 2**15)
    assert half.dtype == np.float16
    assert half.tolist() == [0, 2**13, -3 * 2**13]
    assert to_float32(half, scale).tolist() == [0, 2**-20, -3 * 2**-20]
    assert to_float32(half, scale).dtype == np.float32


def test_ordinary_features_are_stored_unscaled() -> None:
    feature = np.random.default_rng(0).standard_normal((6, 4, 8, 8)).astype(np.float32)
    half, scale = to_float16(feature, WHERE)
    assert scale == 1.0
    np.testing.assert_array_equal(half, feature.astype(np.float16))


@pytest.mark.parametrize(("largest", "scale"), [(1.0, 1.0), (-1.0, 1.0), (np.nextafter(np.float32(1), 0), 2**-15)])
def test_scaling_begins_below_one(largest: float, scale: float) -> None:
    assert to_float16(row(0.001, largest), WHERE)[1] == scale


def test_features_of_a_hundred_thousandth_lose_digits_unscaled_and_keep_them_scaled() -> None:
    feature = (np.random.default_rng(0).uniform(0.1, 1, 5000) * 1e-5).astype(np.float32)
    half, scale = to_float16(feature, WHERE)
    np.testing.assert_allclose(to_float32(half, scale), feature, rtol=5e-4)
    unscaled = feature.astype(np.float16).astype(np.float32)
    assert np.abs(unscaled / feature - 1).max() > 5e-3


@pytest.mark.parametrize("shape", [(0,), (3, 2)])
def test_zeros_and_nothing_stay_what_they_are(shape: tuple[int, ...]) -> None:
    half, scale = to_float16(np.zeros(shape, np.float32), WHERE)
    assert (half.shape, scale, half.any()) == (shape, 1.0, False)


def test_the_ends_of_both_ranges_are_kept() -> None:
    assert to_float16(row(65504, -65504), WHERE)[0].tolist() == [65504, -65504]
    tiny = row(2**-149, -(2**-149), 2**-140)
    np.testing.assert_array_equal(to_float32(*to_float16(tiny, WHERE)), tiny)


@pytest.mark.parametrize("value", [65505, -1e6, math.inf, -math.inf, math.nan])
def test_features_that_float16_cannot_hold_are_an_error(value: float) -> None:
    with pytest.raises(FeatureOutOfRange, match=r"^clip 7: features after mixed_4e reach .*; float16 holds 65504"):
        to_float16(row(1, value, 2), WHERE)


@given(
    values=arrays(np.float32, st.integers(1, 40), elements=st.floats(-60000, 60000, width=32)),
    exponent=st.integers(-140, 0),
)
def test_every_value_keeps_eleven_bits_down_to_a_sixteen_thousandth_of_the_largest(
    values: np.ndarray, exponent: int
) -> None:
    feature = np.ldexp(values, exponent)
    half, scale = to_float16(feature, WHERE)
    assert math.frexp(scale)[0] == 0.5  # a power of two
    assert float(np.float32(scale)) == scale
    exact, found = feature.astype(np.float64), to_float32(half, scale).astype(np.float64)
    error, largest = np.abs(found - exact), np.abs(exact).max()
    kept = np.abs(exact) >= largest * 2.0**-14
    assert (error[kept] <= np.abs(exact[kept]) * 2.0**-11).all()
    assert (error <= largest * 2.0**-11 * np.where(kept, 1, 2.0**-14)).all()
    assert not found[exact == 0].any()
