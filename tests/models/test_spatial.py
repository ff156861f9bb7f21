import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.spatial import coordinates


def test_the_right_half_of_one_row():
    left, right = coordinates(1, 2)[:, 0, :].T.tolist()
    assert left == [-1, -1, 0, 1, -0.5, 0, 0.5, 1]
    assert right == [0, -1, 1, 1, 0.5, 0, 0.5, 1]


@given(st.integers(1, 9), st.integers(1, 9))
def test_every_cell_is_what_the_formula_says(height, width):
    expected = np.zeros((8, height, width))
    for y in range(height):
        for x in range(width):
            xmin, ymin = 2 * x / width - 1, 2 * y / height - 1
            xmax, ymax = 2 * (x + 1) / width - 1, 2 * (y + 1) / height - 1
            centres = ((xmin + xmax) / 2, (ymin + ymax) / 2)
            expected[:, y, x] = xmin, ymin, xmax, ymax, *centres, 1 / width, 1 / height
    found = coordinates(height, width, dtype=torch.float64)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-15)


@given(st.integers(1, 9), st.integers(1, 9))
def test_turning_the_frame_swaps_the_axes(height, width):
    turned = coordinates(width, height).transpose(1, 2)[[1, 0, 3, 2, 5, 4, 7, 6]]
    assert torch.equal(coordinates(height, width), turned)
