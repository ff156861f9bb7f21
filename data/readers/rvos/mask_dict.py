"""The file mask_dict.json of MeViS: for each annotation a list over the frames of COCO's run lengths, or null.

The file has hundreds of megabytes. A process that reads masks parses it once and keeps it, which takes about
2 times its size, and 4 times its size for a moment; a process that lists videos does not open it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from data import strict_json
from data.readers import instance_masks
from data.readers.annotations import MalformedAnnotations, MissingFile
from data.wording import counted, shown


def masks(
    path: Path, number: int, height: int, width: int, annotations: Sequence[str]
) -> dict[str, UInt8[np.ndarray, "h w"]]:
    """Return the masks of annotations in frame `number`, counted from 1, without those that are null there.

    Raises MissingFile, MalformedAnnotations, MaskSizeMismatch."""
    found = {}
    for annotation in annotations:
        frames = _frames(path, annotation)
        if number > len(frames):
            raise MalformedAnnotations(
                f"{path}: annotation {annotation} has {counted(len(frames), 'frame')}, but its video has frame"
                f" {number}. Fetch it again."
            )
        if (encoded := frames[number - 1]) is not None:
            where = f"{path}: annotation {annotation}, frame {number}"
            found[annotation] = instance_masks.decoded(where, encoded, height, width)
    return found


def appears(path: Path, annotations: Sequence[str]) -> bool:
    """Return whether one of the annotations is in any frame. Raises MissingFile, MalformedAnnotations."""
    return any(encoded is not None for annotation in annotations for encoded in _frames(path, annotation))


def _frames(path: Path, annotation: str) -> list[Any]:
    try:
        status = path.stat()
    except OSError as error:
        raise MissingFile(f"{path} cannot be read ({error.strerror}). Put it there again.") from None
    document = _document(path, status.st_mtime_ns, status.st_size)
    if isinstance(document, str):
        raise MalformedAnnotations(document)
    if annotation not in document:
        raise MalformedAnnotations(
            f"{path}: no annotation {annotation}, which an expression names. Correct its anno_id, or fetch the file"
            " again."
        )
    frames = document[annotation]
    if not isinstance(frames, list):
        raise MalformedAnnotations(f"{path}: annotation {annotation} is {shown(frames)}; expected a list over frames.")
    return frames


@lru_cache(maxsize=1)
def _document(path: Path, changed: int, size: int) -> dict[str, Any] | str:
    """Return the parsed file, or what is wrong with it, so that a damaged file is parsed once, too."""
    try:
        document = strict_json.read(path)
    except OSError as error:
        return f"{path} cannot be read ({error.strerror}). Put it there again."
    except strict_json.NotJSON as error:
        return f"{path}: {error}. Fetch it again."
    if not isinstance(document, dict):
        return f'{path}: {shown(document)}; expected {{"<annotation>": [run lengths or null, ...]}}. Fetch it again.'
    return document
