"""Optical flow of drawn pictures whose motion is known."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.video.flow import FlowUnavailable, ImpossibleBound, NoMotion, UnknownFlow, flow_fields

SIZE = 96
MARGIN = 24
INTERIOR = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]

HAS_TVL1 = hasattr(cv2, "optflow")


@pytest.fixture
def opencv_threads() -> Iterator[None]:
    """The number of OpenCV's threads, put back after the test."""
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


def texture(size: int, seed: int = 3) -> np.ndarray:
    """A smooth random square with details at several scales, in 0 .. 255."""
    random = np.random.default_rng(seed)
    values = np.zeros((size, size), np.float32)
    for cells in (8, 16, 32):
        grid = random.standard_normal((cells, cells)).astype(np.float32)
        values += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return ((values - values.min()) * (255 / (values.max() - values.min()))).astype(np.uint8)


def clip(*places: tuple[int, int], size: int = SIZE) -> np.ndarray:
    """Frames of a texture that has moved to each place (x, y), within 40 pixels of where it was."""
    wide = texture(size + 80)
    frames = [wide[40 - y : 40 - y + size, 40 - x : 40 - x + size] for x, y in places]
    return np.stack([np.stack(frames)] * 3, axis=-1)


def inner_mean(field: np.ndarray) -> list[float]:
    return field[INTERIOR].mean((0, 1)).tolist()


def test_a_picture_that_moves_3_right_and_2_up_has_the_field_3_minus_2_of_20():
    frames = clip((0, 0), (3, -2), (6, -4))
    fields = flow_fields(frames, None, "dis", 20.0)
    assert fields.dtype == np.float32
    assert fields.shape == (3, SIZE, SIZE, 2)
    for field in fields:
        assert inner_mean(field) == pytest.approx([3 / 20, -2 / 20], abs=0.001)
        assert np.abs(field[INTERIOR] - np.float32([0.15, -0.1])).max() < 0.01  # a fifth of a pixel


@pytest.mark.parametrize("motion", [(5, 0), (-5, 0), (0, 5), (0, -5)])
def test_x_comes_first_and_right_and_down_are_positive(motion):
    fields = flow_fields(clip((0, 0), motion), None, "dis", 10.0)
    assert inner_mean(fields[0]) == pytest.approx([motion[0] / 10, motion[1] / 10], abs=0.005)


def test_each_field_leads_to_the_next_frame_and_the_last_to_the_frame_after_the_clip():
    places = [(0, 0), (2, 0), (2, 3), (-2, 3), (1, 1)]
    frames = clip(*places)
    fields = flow_fields(frames[:4], frames[4], "dis", 20.0)
    found = [inner_mean(field) for field in fields]
    expected = [(2, 0), (0, 3), (-4, 0), (3, -2)]
    np.testing.assert_allclose(np.array(found) * 20, expected, atol=0.05)


def test_where_the_video_ends_the_last_field_is_that_before_it():
    frames = clip((0, 0), (2, 0), (2, 3))
    ended = flow_fields(frames, None, "dis", 20.0)
    going_on = flow_fields(frames, frames[0], "dis", 20.0)
    np.testing.assert_array_equal(ended[:2], going_on[:2])
    np.testing.assert_array_equal(ended[2], ended[1])
    assert inner_mean(going_on[2]) == pytest.approx([-0.1, -0.15], abs=0.005)


def test_one_frame_with_one_after_it_has_one_field():
    frames = clip((0, 0), (4, 1))
    fields = flow_fields(frames[:1], frames[1], "dis", 20.0)
    assert fields.shape == (1, SIZE, SIZE, 2)
    assert inner_mean(fields[0]) == pytest.approx([0.2, 0.05], abs=0.005)


def test_motion_beyond_the_bound_is_clipped_on_both_sides():
    fields = flow_fields(clip((0, 0), (8, -6)), None, "dis", 5.0)
    assert (fields[0][INTERIOR] == [1, -1]).all()
    assert np.abs(fields).max() == 1


def test_the_bound_scales_what_it_does_not_clip():
    frames = clip((0, 0), (3, -2), (-8, 5))
    pixels = flow_fields(frames, None, "dis", 1024.0) * 1024  # a power of two loses no bits
    assert np.abs(pixels).max() > 7
    for bound in (0.1, 2.5, 7.0):
        found = flow_fields(frames, None, "dis", bound)
        np.testing.assert_allclose(found, np.clip(pixels / bound, -1, 1), rtol=1e-6, atol=1e-9)
        assert np.abs(found).max() == 1


@pytest.mark.parametrize("value", [None, 0])
def test_where_nothing_moves_the_field_is_zero(value):
    frames = clip((0, 0), (0, 0), (0, 0))
    if value is not None:
        frames = np.full_like(frames, value)
    assert not flow_fields(frames, frames[0], "dis", 20.0).any()


def test_a_zoom_has_the_field_of_a_zoom():
    wide, centre, zoom = texture(SIZE), (SIZE - 1) / 2, 1.06
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    # The pixel at x of the second picture comes from (x - centre) / zoom + centre of the first.
    nearer = cv2.remap(wide, (x - centre) / zoom + centre, (y - centre) / zoom + centre, cv2.INTER_CUBIC)
    frames = np.stack([np.stack([wide, nearer])] * 3, axis=-1)
    expected = np.stack([x - centre, y - centre], axis=-1) * (zoom - 1)
    found = flow_fields(frames, None, "dis", 20.0)[0] * 20
    assert np.abs(expected[INTERIOR]).max() > 1.4
    assert np.abs(found - expected)[INTERIOR].mean() < 0.05
    assert np.abs(found - expected)[INTERIOR].max() < 0.3


def test_frames_are_rgb():
    """Red and blue such that grey follows the red texture, and would be flat if red and blue were confused."""
    red = clip((0, 0), (3, -2))[..., 0]
    blue = (255 - red * (0.114 / 0.299)).round().astype(np.uint8)
    fields = flow_fields(np.stack([red, np.zeros_like(red), blue], axis=-1), None, "dis", 20.0)
    assert inner_mean(fields[0]) == pytest.approx([0.15, -0.1], abs=0.002)


@given(st.integers(-6, 6), st.integers(-6, 6))
@settings(max_examples=20, deadline=None)
def test_any_small_motion_is_found(x, y):
    field = flow_fields(clip((0, 0), (x, y)), None, "dis", 20.0)[0]
    assert inner_mean(field) == pytest.approx([x / 20, y / 20], abs=0.01)


def test_the_same_clip_has_the_same_bits_whatever_was_computed_before():
    frames = clip((0, 0), (3, -2), (-5, 4), (1, 1))
    expected = flow_fields(frames, frames[0], "dis", 20.0)
    flow_fields(frames[::-1], None, "dis", 20.0)
    flow_fields(clip((0, 0), (1, 1), size=40), None, "dis", 20.0)  # DIS would keep the scales of a smaller picture
    np.testing.assert_array_equal(flow_fields(frames, frames[0], "dis", 20.0), expected)


def test_fields_computed_in_another_order_have_the_same_bits():
    frames = clip((0, 0), (3, -2), (-5, 4), (1, 1), (0, 6))
    expected = flow_fields(frames[:4], frames[4], "dis", 20.0)
    for place in (3, 1, 0, 2):
        alone = flow_fields(frames[place : place + 1], frames[place + 1], "dis", 20.0)
        np.testing.assert_array_equal(alone[0], expected[place])


@pytest.mark.usefixtures("opencv_threads")
@pytest.mark.parametrize("size", [SIZE, 250])
def test_the_number_of_opencvs_threads_does_not_show(size):
    frames = clip((0, 0), (3, -2), (-5, 4), size=size)
    frames = frames ^ np.random.default_rng(0).integers(0, 16, frames.shape).astype(np.uint8)
    found = []
    for threads in (1, 2, 3, 8):
        cv2.setNumThreads(threads)
        assert cv2.getNumThreads() == threads
        found.append(flow_fields(frames, None, "dis", 20.0))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_frames_that_do_not_lie_in_one_piece_have_the_same_field():
    frames = clip((0, 0), (3, -2))
    expected = flow_fields(np.ascontiguousarray(frames[::-1, :, ::-1]), None, "dis", 20.0)
    np.testing.assert_array_equal(flow_fields(frames[::-1, :, ::-1], None, "dis", 20.0), expected)


@pytest.mark.skipif(not HAS_TVL1, reason="this OpenCV has no TV-L1")
def test_tvl1_finds_the_same_motion():
    frames = clip((0, 0), (3, -2), (3, -2))
    fields = flow_fields(frames, frames[0], "tvl1", 20.0)
    assert [inner_mean(field) for field in fields] == [
        pytest.approx(expected, abs=0.002) for expected in ([0.15, -0.1], [0, 0], [-0.15, 0.1])
    ]


@pytest.mark.skipif(HAS_TVL1, reason="this OpenCV has TV-L1")
def test_tvl1_is_refused_where_opencv_lacks_it_with_the_package_that_has_it():
    with pytest.raises(FlowUnavailable, match="opencv-contrib-python-headless"):
        flow_fields(clip((0, 0), (1, 1)), None, "tvl1", 20.0)


def test_what_makes_no_flow_is_refused():
    frames = clip((0, 0), (1, 1))
    with pytest.raises(UnknownFlow, match="'farneback': expected one of dis, tvl1"):
        flow_fields(frames, None, "farneback", 20.0)
    for bound in (0.0, -20.0, float("nan"), float("inf")):
        with pytest.raises(ImpossibleBound, match=f"bound {bound}"):
            flow_fields(frames, None, "dis", bound)
    with pytest.raises(NoMotion, match="1 frame and none after it"):
        flow_fields(frames[:1], None, "dis", 20.0)
    with pytest.raises(NoMotion, match="0 frames and one after it"):
        flow_fields(frames[:0], frames[0], "dis", 20.0)
