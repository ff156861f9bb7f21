"""Folders of pictures as videos: the order of the frames, and what is refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from extractors.video.decoder import Decoder
from extractors.video.failures import FrameOutOfRange, UnreadableVideo

LIMIT = 60.0


def picture(value: int, suffix: str) -> bytes:
    """A picture of one colour, which JPEG keeps."""
    return cv2.imencode(suffix, np.full((32, 48, 3), value, np.uint8))[1].tobytes()


def write(folder: Path, names: list[str]) -> Path:
    """Write a picture under each name; its pixels are 10 times its place in the list."""
    folder.mkdir(exist_ok=True)
    for place, name in enumerate(names):
        (folder / name).write_bytes(picture(10 * place, Path(name).suffix))
    return folder


def frames(folder: Path) -> list[int]:
    with Decoder() as decoder:
        count = decoder.clips(folder, (0,), LIMIT).count
        decoded = decoder.clips(folder, tuple(range(count)), LIMIT)
        decoder.verify(folder, tuple(range(count)), decoded.frames, LIMIT)
    assert all((frame == frame[0, 0, 0]).all() for frame in decoded.frames)
    return [int(frame[0, 0, 0]) for frame in decoded.frames]


@pytest.mark.parametrize(
    "names",
    [
        ["00001.jpg", "00002.jpg", "00003.jpg"],
        ["00000.jpg", "00005.jpg", "00010.jpg"],  # every fifth, as in Ref-YouTube-VOS
        ["0.png", "1.png", "2.png"],
        ["00000.png", "00001.png", "00002.png"],
        ["9.jpeg", "10.jpeg", "011.png"],  # by number, not by name
        ["a.png", "b.JPG", "frame_2.jpg"],
    ],
)
def test_the_order_of_the_frames(tmp_path: Path, names: list[str]) -> None:
    folder = write(tmp_path / "video", names)
    (folder / "Thumbs.db").write_bytes(b"no picture")
    (folder / "._00001.jpg").write_bytes(b"no picture")
    assert frames(folder) == [0, 10, 20]


def test_what_is_no_whole_picture_is_refused(tmp_path: Path) -> None:
    whole = picture(50, ".jpg")
    for content, suffix, said in (
        (whole[: len(whole) // 2], ".jpg", "JPEG image .* and its end is missing"),
        (picture(50, ".png"), ".jpg", "JPEG image .it does not begin as one"),
        (whole, ".png", "PNG image .it does not begin as one"),
        (b"", ".jpg", "JPEG image"),
    ):
        folder = write(tmp_path / f"{len(content)}{suffix}", ["1.jpg", "2.jpg"])
        (folder / f"3{suffix}").write_bytes(content)
        with Decoder() as decoder, pytest.raises(UnreadableVideo, match=said):
            decoder.clips(folder, (2,), LIMIT)
    padded = write(tmp_path / "padded", ["1.jpg"])
    (padded / "2.jpg").write_bytes(whole + bytes(7))
    assert frames(padded) == [0, 50]


def test_two_pictures_of_one_name_a_gap_and_frames_beyond_the_end_are_refused(tmp_path: Path) -> None:
    with Decoder() as decoder:
        with pytest.raises(UnreadableVideo, match=r"two pictures are named 2"):
            decoder.clips(write(tmp_path / "twice", ["1.jpg", "2.jpg", "2.png"]), (0,), LIMIT)
        with pytest.raises(UnreadableVideo, match=r"2 images, but no 00002\.png"):
            decoder.clips(write(tmp_path / "gap", ["00001.png", "00003.png"]), (0,), LIMIT)
        with pytest.raises(FrameOutOfRange, match="the video has 2 frames"):
            decoder.clips(write(tmp_path / "short", ["1.jpg", "2.jpg"]), (2,), LIMIT)
        with pytest.raises(UnreadableVideo, match="0 images"):
            decoder.clips(write(tmp_path / "none", ["1.txt"][:0]), (0,), LIMIT)
