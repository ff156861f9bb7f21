"""The picture that `acga segment` leaves: frames of a video with the masks of all sentences, each in its colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from pipeline.pages.contact_sheet import COLOURS, COLUMNS, WIDTH, cell

MOST = 24  # frames shown
LINE = 26  # px, a sentence

Picture = UInt8[np.ndarray, "h w 3"]


class Overview:
    """Collects frames: of many numbers only some, evenly spaced, so that memory does not grow with the video."""

    def __init__(self, queries: Sequence[str], numbers: Sequence[int]) -> None:
        places = np.linspace(0, len(numbers) - 1, min(MOST, len(numbers))).round().astype(int)
        self._shown = {numbers[place] for place in places}
        self._queries = queries
        self._cells: list[Picture] = []

    def add(self, number: int, frame: Picture, masks: Sequence[UInt8[np.ndarray, "h w"]]) -> None:
        """Take a frame (RGB) and the mask of each sentence, if it is among those that are shown."""
        if number in self._shown:
            self._cells.append(cell(frame, masks, True, f"frame {number}"))

    def write(self, path: Path) -> None:
        """Write the picture as PNG: the sentences, then `COLUMNS` frames a row."""
        cells = [*self._cells, *[np.full_like(self._cells[0], 255)] * (-len(self._cells) % COLUMNS)]
        rows = [np.concatenate(cells[start : start + COLUMNS], axis=1) for start in range(0, len(cells), COLUMNS)]
        lines = [_line(query, place) for place, query in enumerate(self._queries)]
        picture = np.concatenate([*lines, *rows])
        path.write_bytes(cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes())


def _line(query: str, place: int) -> Picture:
    """A sentence beside its colour; cut where the picture ends."""
    line = np.full((LINE, COLUMNS * WIDTH, 3), 255, np.uint8)
    line[6:-6, 8:34] = COLOURS[place % len(COLOURS)]
    text = query.encode("ascii", "replace").decode()  # OpenCV draws no other letters
    cv2.putText(line, text, (44, LINE - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (28, 36, 48), 1, cv2.LINE_AA)
    return line
