"""The letterbox and its inverses."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.letterbox import ImpossibleLetterbox, Letterbox, WrongSize

SIZES = st.tuples(st.integers(16, 400), st.integers(16, 400), st.sampled_from([64, 128, 512]))


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (320, 568, (112, 400), (0, 512)),
        (320, 426, (63, 448), (0, 512)),
        (240, 320, (64, 448), (0, 512)),
        (320, 768, (149, 362), (0, 512)),
        (568, 320, (0, 512), (112, 400)),
    ],
)
def test_frames_lie_where_the_reference_puts_them(
    height: int, width: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    framed = Letterbox(height, width, 512).image(np.full((height, width, 3), 255, np.uint8))
    expected = np.zeros((512, 512, 3), np.uint8)
    expected[slice(*rows), slice(*columns)] = 255
    np.testing.assert_array_equal(framed, expected)


def test_the_inside_is_the_bilinear_resize() -> None:
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    inside = Letterbox(240, 320, 512).image(image)[64:448]
    np.testing.assert_array_equal(inside, cv2.resize(image, (512, 384), interpolation=cv2.INTER_LINEAR))


def test_masks_take_the_nearest_pixel_centre() -> None:
    mask = np.random.default_rng(0).integers(0, 2, (12, 20)).astype(np.uint8)
    framed = Letterbox(12, 20, 64).mask(mask)  # 38 x 64, at row 13
    rows = ((np.arange(38) + 0.5) * 12 / 38).astype(int)
    columns = ((np.arange(64) + 0.5) * 20 / 64).astype(int)
    np.testing.assert_array_equal(framed[13:51], mask[rows][:, columns])
    assert framed[:13].sum() + framed[51:].sum() == 0


def authors_resize_and_crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """As datasets.md 5.3 quotes ACGA's util/tool.py."""
    size = image.shape[0]
    scale = max(height / size, width / size)
    resized_h, resized_w = int(np.round(size * scale)), int(np.round(size * scale))
    crop_h, crop_w = int(np.floor(resized_h - height) / 2), int(np.floor(resized_w - width) / 2)
    resized = cv2.resize(image, (resized_w, resized_h))
    return resized[crop_h : crop_h + height, crop_w : crop_w + width]


@given(sizes=SIZES, seed=st.integers(0, 99))
def test_restore_is_the_authors_resize_and_crop(sizes: tuple[int, int, int], seed: int) -> None:
    height, width, size = sizes
    mask = np.random.default_rng(seed).integers(0, 2, (size, size)).astype(np.uint8)
    restored = Letterbox(height, width, size).restore(mask)
    np.testing.assert_array_equal(restored, authors_resize_and_crop(mask, height, width))


@given(sizes=SIZES)
def test_the_margins_are_even_and_empty_and_the_frame_touches_two_sides(sizes: tuple[int, int, int]) -> None:
    height, width, size = sizes
    box = Letterbox(height, width, size)
    framed = box.mask(np.ones((height, width), np.uint8))
    assert framed.sum() == box.resized_height * box.resized_width
    rows, columns = np.flatnonzero(framed.any(1)), np.flatnonzero(framed.any(0))
    assert max(box.resized_height, box.resized_width) == size
    assert 0 <= (size - 1 - rows[-1]) - rows[0] <= 1
    assert 0 <= (size - 1 - columns[-1]) - columns[0] <= 1


@given(sizes=SIZES)
def test_an_ellipse_survives_both_ways_back(sizes: tuple[int, int, int]) -> None:
    height, width, size = sizes
    y, x = np.mgrid[:height, :width]
    mask = (((y - height / 2) / (height / 3)) ** 2 + ((x - width / 2) / (width / 3)) ** 2 <= 1).astype(np.uint8)
    box = Letterbox(height, width, size)
    framed = box.mask(mask)
    cropped = (box.crop_resize(framed.astype(np.float32)) > 0.5).astype(np.uint8)
    thickness = min(box.resized_height, box.resized_width, height, width) / 3  # the ellipse's half axis, coarsest scale
    for restored in (box.restore(framed), cropped):
        overlap = (restored & mask).sum() / (restored | mask).sum()
        assert overlap >= 1 - 4 / thickness  # its outline may be off by a pixel or two


def test_a_constant_map_stays_constant_and_margins_do_not_leak() -> None:
    box = Letterbox(240, 320, 512)
    response = np.full((512, 512), -7.0, np.float32)
    response[64:448] = 3.0
    np.testing.assert_array_equal(box.crop_resize(response), np.full((240, 320), 3.0, np.float32))


def test_wrong_sizes_are_errors() -> None:
    box = Letterbox(240, 320, 512)
    with pytest.raises(WrongSize, match="got 320 x 240, not 240 x 320"):
        box.mask(np.zeros((320, 240), np.uint8))
    with pytest.raises(WrongSize, match="got 64 x 64, not 512 x 512"):
        box.restore(np.zeros((64, 64), np.uint8))
    with pytest.raises(ImpossibleLetterbox, match="positive"):
        Letterbox(0, 320, 512)
    with pytest.raises(ImpossibleLetterbox, match="nothing would be left"):
        Letterbox(1, 5000, 512)
