"""Reader of lists of J-HMDB's labelled frames in the format of MTTR (jhmdb_sentences_samples_metadata.json).

The file is a list of rows [video, ".../Rename_Images/<action>/<video>/<%05d>.png", ".../puppet_mask.mat", frames,
sentence], three per video. Only the video, the number of the picture and the number of frames are used.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import strict_json
from data.readers.annotations import MalformedLabelledList, MissingFile
from data.wording import counted, shown

FRAMES_A_VIDEO = 3
MOST_FRAMES = 99_999  # the pictures have numbers of five digits
_PICTURE = re.compile(r".*/(?P<video>[^/]+)/(?P<number>[0-9]{5})\.png")


@dataclass(frozen=True)
class Labelled:
    """The labelled frames of a video, in ascending order and counted from 1, and its number of frames with masks."""

    numbers: tuple[int, ...]
    frames: int


def read(path: Path) -> dict[str, Labelled]:
    """Return the labelled frames of each video. Raises MissingFile, MalformedLabelledList."""
    chosen: dict[str, list[tuple[int, int]]] = {}
    for index, row in enumerate(_rows(path)):
        video, number, frames = _row(f"{path}, row {index}", row)
        chosen.setdefault(video, []).append((number, frames))
    return {video: _labelled(f"{path}, video {shown(video)[1:-1]}", pairs) for video, pairs in chosen.items()}


def fit(path: Path, chosen: Mapping[str, Labelled], known: Collection[str], masks: Mapping[str, int]) -> None:
    """Check the list read from `path` against the dataset.

    `known` holds all videos of the dataset, `masks` the number of masks of each video that is used. Raises
    MalformedLabelledList if a video is unknown, has no row, or has a row beyond its last mask."""
    again = "Take the list that was made for these files."
    if unknown := sorted(set(chosen) - set(known)):
        raise MalformedLabelledList(
            f"{path}: {counted(len(unknown), 'video')} that puppet_mask does not hold, first {unknown[0]}. {again}"
        )
    if missing := [video for video in masks if video not in chosen]:
        raise MalformedLabelledList(f"{path}: no row for {counted(len(missing), 'video')}, first {missing[0]}. {again}")
    for video, count in masks.items():
        if max(chosen[video].frames, *chosen[video].numbers) > count:
            raise MalformedLabelledList(
                f"{path}, video {video}: frames {', '.join(map(str, chosen[video].numbers))} of "
                f"{chosen[video].frames}, but the last mask is that of frame {count}. {again}"
            )


def _rows(path: Path) -> list[Any]:
    try:
        rows = strict_json.read(path)
    except OSError as error:
        raise MissingFile(f"no file {path} ({error.strerror}). Put it there, or correct [dataset].labelled.") from None
    except strict_json.NotJSON as error:
        raise MalformedLabelledList(f"{path}: {error}. Fetch it again.") from None
    if not isinstance(rows, list) or not rows:
        raise MalformedLabelledList(f"{path}: no list of rows. Take jhmdb_sentences_samples_metadata.json of MTTR.")
    return rows


def _row(where: str, row: Any) -> tuple[str, int, int]:
    """Return the video, the number of the labelled frame and the number of frames."""
    kinds = (str, str, str, int, str)
    if not isinstance(row, list) or [type(cell) for cell in row] != list(kinds):
        raise MalformedLabelledList(
            f"{where}: {shown(row)}; expected [video, picture, masks, count of frames, sentence]."
        )
    video, picture, _, frames, _ = row
    found = _PICTURE.fullmatch(picture.replace("\\", "/"))
    if found is None or found["video"] != video:
        raise MalformedLabelledList(
            f"{where}: the picture {shown(picture)}; expected .../{shown(video)[1:-1]}/<%05d>.png."
        )
    number = int(found["number"])
    if frames > MOST_FRAMES:
        raise MalformedLabelledList(f"{where}: {shown(frames)} frames; expected {MOST_FRAMES} or fewer.")
    if not 1 <= number <= frames:
        raise MalformedLabelledList(f"{where}: frame {number} of {frames}; expected 1 to {frames}.")
    return video, number, frames


def _labelled(where: str, pairs: list[tuple[int, int]]) -> Labelled:
    numbers, counts = sorted({number for number, _ in pairs}), {frames for _, frames in pairs}
    if len(pairs) != FRAMES_A_VIDEO or len(numbers) != FRAMES_A_VIDEO or len(counts) != 1:
        drawn, kinds = shown([number for number, _ in pairs]), shown(sorted(counts))
        raise MalformedLabelledList(
            f"{where}: frames {drawn} of {kinds}; expected {FRAMES_A_VIDEO} different ones of one count."
        )
    return Labelled(tuple(numbers), counts.pop())
