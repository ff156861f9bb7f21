"""A contact sheet: the frames of a video's clips with the masks, so that an off-by-one is seen at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from data import datasets
from data.records import Video
from extractors.video.clips import Clips, Source, decode
from extractors.video.decoder import Decoder

COLUMNS = 4
WIDTH = 240  # px, a frame
CAPTION = 18  # px
# RGB, by instance, again from the first where there are more.
COLOURS = ((255, 90, 54), (22, 197, 255), (255, 209, 41), (126, 217, 87), (203, 108, 230))
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42

Picture = UInt8[np.ndarray, "h w 3"]


class UnwritablePicture(OSError):
    """A contact sheet that cannot be written where it should be."""


def write(path: Path, kind: str, video: Video, last: int, length: int, limit_seconds: float) -> None:
    """Write the sheet of a video as PNG: for each labelled frame its clip, `COLUMNS` frames a row.

    The labelled frame has its masks filled, the next to it on both sides only their outlines: where the outline fits
    a neighbour better than the labelled frame, the frames are off by one. Raises what decoding and reading masks raise.
    """
    numbers = tuple(frame.number for frame in video.labelled)
    source = Source(video.id, Path(video.path), video.height, video.width, video.frames, last, numbers)
    with Decoder() as decoder:
        clips = decode(decoder, source, length, limit_seconds, verify=False)
    blocks = []
    for frame in video.labelled:
        found = datasets.read_instances(kind, Path(frame.path), frame.number, video.height, video.width, video.unions)
        blocks.append(_block(video, clips, frame.number, found.masks))
    encoded = cv2.imencode(".png", np.concatenate(blocks)[:, :, ::-1])[1]
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise UnwritablePicture(f"--sheet {path}: cannot be written ({error.strerror}). Give another path.") from None


def _block(video: Video, clips: Clips, number: int, masks: UInt8[np.ndarray, "n h w"]) -> Picture:
    """The clip around one labelled frame."""
    cells = []
    for place, (index, frame) in enumerate(zip(clips.indices[number], clips.frames(number), strict=True)):
        distance = abs(place - len(clips.indices[number]) // 2)
        cells.append(cell(frame, masks if distance < 2 else masks[:0], distance == 0, _caption(video, index, number)))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % COLUMNS)
    rows = [np.concatenate(cells[start : start + COLUMNS], axis=1) for start in range(0, len(cells), COLUMNS)]
    return np.concatenate(rows)


def _caption(video: Video, index: int, number: int) -> str:
    name = f"frame {index + 1}"
    return f"{name} labelled, {video.id}" if index + 1 == number else name


def cell(frame: Picture, masks: Sequence[np.ndarray] | np.ndarray, filled: bool, caption: str) -> Picture:
    """One frame (RGB), made `WIDTH` wide, under its caption; its masks filled, or their outlines alone."""
    height = round(frame.shape[0] * WIDTH / frame.shape[1])
    picture = cv2.resize(frame, (WIDTH, height), interpolation=cv2.INTER_AREA)
    for instance, mask in enumerate(masks):
        colour = COLOURS[instance % len(COLOURS)]
        small = cv2.resize(mask, (WIDTH, height), interpolation=cv2.INTER_NEAREST)
        if filled:
            picture[small > 0] = (0.6 * picture[small > 0] + 0.4 * np.array(colour)).astype(np.uint8)
        outline, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outline, -1, colour, 1)
    strip = np.full((CAPTION, WIDTH, 3), 255 if filled else 32, np.uint8)
    ink = (0, 0, 0) if filled else (220, 220, 220)
    cv2.putText(strip, caption, (4, CAPTION - 5), _FONT, _SCALE, ink, 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])
