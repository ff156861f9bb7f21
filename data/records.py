"""Immutable records that describe a dataset: videos, labelled frames, queries and instances."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

ACTORS = ("adult", "baby", "ball", "bird", "car", "cat", "dog")
ACTIONS = ("climbing", "crawling", "eating", "flying", "jumping", "rolling", "running", "walking", "none")
LABELS = (  # the 43 labels of A2D: 10 * actor + action, both counted from 1
    *(11, 12, 13, 15, 16, 17, 18, 19, 21, 22, 26, 28, 29, 34, 35, 36, 39, 41, 43, 44, 45, 46, 48, 49),
    *(54, 55, 56, 57, 59, 61, 63, 65, 66, 67, 68, 69, 72, 73, 75, 76, 77, 78, 79),
)


@dataclass(frozen=True)
class LabelledFrame:
    """A frame with masks. `number` counts from 1 (decoded index + 1); `path` is the annotation file."""

    number: int
    path: str


@dataclass(frozen=True)
class Video:
    """A video file or a folder of pictures. `frames` is the declared number of frames, 0 if unknown.

    `labels` are those of the instances that the annotation files do not know (see `Instances`); `unions` are the
    annotations that an instance unites, where the annotation files know no instances."""

    id: str
    path: str
    split: str
    height: int
    width: int
    frames: int
    labelled: tuple[LabelledFrame, ...]
    labels: Mapping[int, int] = field(default_factory=dict)
    unions: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Query:
    """A cleaned sentence about one instance of a video. `row` is its line in the annotation file; the header is line 1.

    `ordinal` is the position of the sentence among those of its instance, from 0; None if the instance has only one.
    It is the number of the expression where the annotation file numbers those of a video; there `row` may be 0.
    `frames` are the labelled frames that it is about, None for all; `group` is what identifies the instance, "" if the
    sentences do not say."""

    video: str
    instance: int
    text: str
    row: int
    ordinal: int | None
    frames: tuple[int, ...] | None = None
    group: str = ""

    @property
    def id(self) -> str:
        """`video/instance`, with `/ordinal` if the instance has several sentences; unique in a dataset."""
        return f"{self.video}/{self.instance}" + ("" if self.ordinal is None else f"/{self.ordinal}")


@dataclass(frozen=True)
class Listing:
    """The videos and queries of one split; `hits` maps each rule of `data.defects` to the records that match it."""

    videos: tuple[Video, ...]
    queries: tuple[Query, ...]
    hits: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Instances:
    """The masks (0 or 1) of one labelled frame. A label is 10 * actor + action, both counted from 1, or 0 if unknown.

    `hits` holds the rules of `data.defects` that this frame matches."""

    masks: UInt8[np.ndarray, "n h w"]
    ids: tuple[int, ...]
    labels: tuple[int, ...]
    hits: tuple[str, ...]


def split_label(label: int) -> tuple[int, int]:
    """Return the actor (1 to 7) and the action (1 to 9) of a label; (0, 0) for the unknown label 0.

    Raises UnknownLabel for every other number."""
    actor, action = divmod(label, 10)
    if label == 0 or (1 <= actor <= len(ACTORS) and 1 <= action <= len(ACTIONS)):
        return actor, action
    raise UnknownLabel(
        f"label {label}: expected 0, or 10 * actor + action with actor 1 to {len(ACTORS)}, action 1 to {len(ACTIONS)}"
    )


class UnknownLabel(ValueError):
    """Raised if a number is not an actor-action label of A2D."""
