"""Verification: frames that are off are found, and the offset is named."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import videos
from hypothesis import given
from hypothesis import strategies as st

from extractors.video import verification
from extractors.video.decoder import Decoder, DecodersDisagree, FrameOutOfRange

LIMIT = 60.0
PATH = Path("clip.mp4")
WANTED = (4, 5, 6, 11, 12, 13, 14)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as made:
        yield made


@pytest.fixture(scope="module", params=["clip.mp4", "clip.avi", "images"])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 numbered frames."""
    path = tmp_path_factory.mktemp("video") / request.param
    if path.suffix:
        videos.encode(path, "libx264" if path.suffix == ".mp4" else "mpeg4")
    else:
        videos.images(count=videos.COUNT)(path)
    return path


def test_right_frames_pass(decoder: Decoder, video: Path) -> None:
    decoded = decoder.clips(video, WANTED, LIMIT)
    decoder.verify(video, WANTED, decoded.frames, LIMIT)
    decoder.verify(video, WANTED[::-1], decoded.frames[::-1], LIMIT)
    decoder.verify(video, (), decoded.frames[:0], LIMIT)


@pytest.mark.parametrize("offset", [-3, -2, -1, 1, 2, 3])
def test_shifted_frames_are_refused_by_their_offset(decoder: Decoder, video: Path, offset: int) -> None:
    shifted = decoder.clips(video, [index + offset for index in WANTED], LIMIT).frames
    says = (
        f"decord's frame 5 is PyAV's frame {5 + offset}, and so on for all 7 compared from there (offset {offset:+d})"
    )
    with pytest.raises(DecodersDisagree, match=re.escape(says)) as refused:
        decoder.verify(video, WANTED, shifted, LIMIT)
    assert refused.value.offset == offset
    assert str(video) in str(refused.value)


def test_a_frame_lost_in_the_middle_is_named(decoder: Decoder, video: Path) -> None:
    lossy = decoder.clips(video, [index + (index > 10) for index in WANTED], LIMIT).frames
    with pytest.raises(DecodersDisagree, match=r"decord's frame 12 is PyAV's frame 13, .* 4 compared"):
        decoder.verify(video, WANTED, lossy, LIMIT)


def test_one_level_in_one_pixel_is_found_and_no_offset_made_up(decoder: Decoder, video: Path) -> None:
    frames = decoder.clips(video, WANTED, LIMIT).frames
    frames[3, 5, 7, 1] ^= 1
    says = r"decord's frame 12 is not PyAV's: 0\.0% of its pixels differ, by up to 1 of 255, and no offset"
    with pytest.raises(DecodersDisagree, match=says) as refused:
        decoder.verify(video, WANTED, frames, LIMIT)
    assert refused.value.offset is None


def test_frames_that_do_not_exist_cannot_be_verified(decoder: Decoder, video: Path) -> None:
    with pytest.raises(FrameOutOfRange, match="frame 25 is wanted, but the video has 24 frames"):
        decoder.verify(video, [24], np.zeros((1, videos.HEIGHT, videos.WIDTH, 3), np.uint8), LIMIT)


def test_neighbours_lie_within_reach_and_the_video() -> None:
    assert verification.neighbours([1, 9], 11) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]


@given(first=st.integers(3, 30), length=st.integers(1, 10), offset=st.sampled_from([-3, -2, -1, 1, 2, 3]))
def test_any_offset_within_reach_is_found(first: int, length: int, offset: int) -> None:
    frames = {index: np.full((2, 3, 3), index, np.uint8) for index in range(first - 3, first + length + 4)}
    given_frames = {index: frames[index + offset] for index in range(first, first + length)}
    assert verification.disagreement(PATH, given_frames, frames).offset == offset


def test_another_size_is_no_offset() -> None:
    small, large = np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)
    told = verification.disagreement(PATH, {0: small}, {0: large, 1: large})
    assert told.offset is None and "it is 2 x 3, not 3 x 2" in str(told)
