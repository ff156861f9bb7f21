"""Real clips for benchmarks: those around a labelled frame of videos of ../shared/real (A2D's layout)."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a checkout that is not installed

from data.letterbox import Letterbox
from data.readers.a2d import read
from data.records import Video
from extractors.video.clips import Source, decode
from extractors.video.decoder import Decoder

REAL = Path(__file__).resolve().parents[3] / "shared" / "real" / "a2d"
LENGTH = 16  # frames
LIMIT_SECONDS = 60.0  # to decode a video


def labelled(count: int) -> tuple[Sequence[Video], dict[str, int]]:
    """Return some videos and the number of the labelled frame in the middle of each."""
    listing = read(REAL, "all", {})
    videos = listing.videos[:: max(1, len(listing.videos) // count)][:count]
    return videos, {video.id: video.labelled[len(video.labelled) // 2].number for video in videos}


def clips(videos: Sequence[Video], numbers: dict[str, int], pixels: int) -> list[np.ndarray]:
    """Return the letterboxed clip around the labelled frame of each video, as the stage Frames makes it."""
    return list(_letterboxed(videos, numbers, pixels))


def _letterboxed(videos: Sequence[Video], numbers: dict[str, int], pixels: int) -> Iterator[np.ndarray]:
    with Decoder() as decoder:
        for video in videos:
            wanted, number = (numbers[video.id],), numbers[video.id]
            source = Source(video.id, Path(video.path), video.height, video.width, video.frames, 0, wanted)
            box = Letterbox(video.height, video.width, pixels)
            decoded = decode(decoder, source, LENGTH, LIMIT_SECONDS, verify=False)
            yield np.stack([box.image(frame) for frame in decoded.frames(number)])
