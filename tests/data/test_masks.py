"""Target masks at three resolutions, and run lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.letterbox import Letterbox
from data.masks import IndivisibleSize, decode_rle, encode_rle, pyramid


def test_a_cell_is_one_where_half_of_it_is_covered() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:8, :16] = 1  # exactly half of the first small cell
    mask[16:20, 16:18] = 1  # half of a medium cell, little of a small one
    mask[20:24, 16:17] = 1  # a quarter of a medium cell
    found = pyramid(mask, Letterbox(64, 64, 64), 0.5)
    np.testing.assert_array_equal(found.large, mask)
    medium, small = np.zeros((16, 16), np.uint8), np.zeros((4, 4), np.uint8)
    medium[:2, :4] = medium[4, 4] = 1
    small[0, 0] = 1
    np.testing.assert_array_equal(found.medium, medium)
    np.testing.assert_array_equal(found.small, small)


@given(seed=st.integers(0, 99), threshold=st.sampled_from([0.01, 0.25, 0.5, 1.0]), size=st.sampled_from([64, 128]))
def test_cells_are_thresholded_means(seed: int, threshold: float, size: int) -> None:
    mask = np.random.default_rng(seed).integers(0, 2, (48, 80)).astype(np.uint8)
    found = pyramid(mask, Letterbox(48, 80, size), threshold)
    for cell, cells in ((4, found.medium), (16, found.small)):
        for row in range(0, size // cell, 3):
            for column in range(size // cell):
                pixels = found.large[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
                assert cells[row, column] == (pixels.mean() >= threshold)


def test_a_size_that_sixteen_does_not_divide_is_an_error() -> None:
    with pytest.raises(IndivisibleSize, match="size 72"):
        pyramid(np.zeros((48, 80), np.uint8), Letterbox(48, 80, 72), 0.5)


@given(seed=st.integers(0, 99), height=st.integers(1, 40), width=st.integers(1, 40))
def test_run_lengths_hold_the_mask(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).integers(0, 2, (height, width)).astype(np.uint8)
    encoded = encode_rle(mask)
    assert encoded["size"] == [height, width]
    assert isinstance(encoded["counts"], str)
    np.testing.assert_array_equal(decode_rle(encoded), mask)
