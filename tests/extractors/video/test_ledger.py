"""Ledgers of clips: an example worked by hand, and what holds for every clip."""

import hashlib
import json
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.video.decoder import clip_indices
from extractors.video.ledger import ClipLedger, clip_ledger, pixel_hash


def test_the_ledger_of_a_clip_at_the_beginning() -> None:
    found = clip_ledger(1, (0, 0, 0, 1, 2, 3), {0: 0.0, 1: 1 / 24, 2: 2 / 24, 3: nan}, {0: "a", 1: "b", 2: "c", 3: "d"})
    assert found.indices == (0, 0, 0, 1, 2, 3)
    assert (found.left, found.right) == (2, 0)  # from 1 - 6 // 2 = -2 on: two frames before the first
    assert found.pixels == ("a", "a", "a", "b", "c", "d")
    assert found.seconds[:5] == (0.0, 0.0, 0.0, 1 / 24, 2 / 24) and isnan(found.seconds[5])


def test_its_document_is_json_with_null_for_unknown_times() -> None:
    found = ClipLedger((0, 0, 1), (1 / 3, 1 / 3, nan), ("a", "a", "b"), 1, 0)
    assert json.loads(json.dumps(found.document(), allow_nan=False)) == {
        "indices": [0, 0, 1],
        "seconds": [0.333333, 0.333333, None],
        "pixels": ["a", "a", "b"],
        "padding": [1, 0],
    }


@pytest.mark.parametrize(("labelled", "padding"), [(0, (8, 7)), (8, (0, 0)), (7, (1, 0)), (39, (0, 7)), (32, (0, 0))])
def test_padding_is_what_lies_outside_the_video(labelled: int, padding: tuple[int, int]) -> None:
    count = 1 if padding == (8, 7) else 40
    found = clip_ledger(
        labelled, clip_indices(labelled, 16, count), dict.fromkeys(range(40), 0.0), dict.fromkeys(range(40), "")
    )
    assert (found.left, found.right) == padding


@given(count=st.integers(1, 60), length=st.integers(1, 20), data=st.data())
def test_padding_and_distinct_frames_make_up_the_clip(count: int, length: int, data: st.DataObject) -> None:
    labelled = data.draw(st.integers(0, count - 1))
    indices = clip_indices(labelled, length, count)
    times = {index: index / 7 for index in range(count)}
    found = clip_ledger(labelled, indices, times, {index: str(index) for index in range(count)})
    assert found.left + found.right + len(set(indices)) == length
    assert set(indices[: found.left + 1]) == {indices[0]}
    assert set(indices[length - 1 - found.right :]) == {indices[-1]}
    assert list(found.seconds) == [times[index] for index in indices]


def test_a_pixel_hash_is_of_shape_and_pixels() -> None:
    frame = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert pixel_hash(frame) == hashlib.sha256(b"2x3x3" + bytes(range(18))).hexdigest()[:16]
    assert pixel_hash(np.asfortranarray(frame)) == pixel_hash(frame)
    assert pixel_hash(frame.reshape(3, 2, 3)) != pixel_hash(frame)
    changed = frame.copy()
    changed[1, 2, 2] += 1
    assert pixel_hash(changed) != pixel_hash(frame)
