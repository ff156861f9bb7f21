"""Run lengths from outside are decoded as pycocotools decodes them, or refused before it sees them."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from data.run_lengths import WrongRuns, checked_runs, mask_of_runs, needs_new_form


def drawn(seed: int, height: int, width: int, share: float) -> np.ndarray:
    return (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)


def text_of(mask: np.ndarray) -> str:
    return str(coco.encode(np.asfortranarray(mask))["counts"].decode())


def written(runs: list[int]) -> str:
    """Write numbers as COCO's text, one at a time, whatever they are."""
    text = ""
    for place, run in enumerate(runs):
        value, more = run - (runs[place - 2] if place > 2 else 0), True
        while more:
            bits, value = value & 0x1F, value >> 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr(48 + (bits | 0x20 * more))
    return text


@given(st.integers(0, 999), st.integers(1, 60), st.integers(1, 60), st.sampled_from([0, 0.02, 0.5, 0.98, 1]))
@settings(max_examples=200, deadline=None)
def test_a_mask_comes_back_from_its_text_and_from_its_list(seed: int, height: int, width: int, share: float) -> None:
    mask = drawn(seed, height, width, share)
    runs = checked_runs(text_of(mask), height, width)
    np.testing.assert_array_equal(mask_of_runs(runs, height, width), mask)
    assert written(runs.tolist()) == text_of(mask)
    np.testing.assert_array_equal(checked_runs(runs.tolist(), height, width), runs)
    assert not needs_new_form(runs)


@given(
    st.text(st.characters(codec="utf-8"), max_size=30) | st.text([chr(48 + code) for code in range(64)], max_size=30)
)
@settings(max_examples=500, deadline=None)
def test_any_text_is_refused_or_fills_the_mask(counts: str) -> None:
    try:
        runs = checked_runs(counts, 4, 5)
    except WrongRuns:
        return
    assert runs.min() >= 0 and runs.sum() == 20


@given(st.lists(st.integers(-3, 30) | st.integers(-(2**70), 2**70), max_size=8))
@settings(max_examples=500, deadline=None)
def test_any_runs_are_refused_unless_they_fill_the_mask(runs: list[int]) -> None:
    right = bool(runs) and min(runs) >= 0 and sum(runs) == 20
    for counts in (runs, written(runs)):
        if right:
            np.testing.assert_array_equal(checked_runs(counts, 4, 5), runs)
        else:
            with pytest.raises(WrongRuns):
                checked_runs(counts, 4, 5)


def test_empty_runs_between_others_are_seen() -> None:
    runs = checked_runs([5, 3, 0, 2, 10], 4, 5)
    assert needs_new_form(runs)
    assert mask_of_runs(runs, 4, 5).T.ravel().tolist() == [0] * 5 + [1] * 5 + [0] * 10
    assert not needs_new_form(checked_runs([0, 20], 4, 5)) and not needs_new_form(checked_runs([20, 0], 4, 5))


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ([10, 5], r"15 pixels; expected 20 \(4 x 5\)"),
        ([1], "1 pixel; expected 20"),
        ([30], "run 0 is 30; expected 0 to 20"),
        ([-1, 21], "run 0 is -1"),
        ([10.0, 10.0], r"run 0 is 10\.0; expected an integer"),
        ([10, True, 9], "run 1 is true"),
        ([10, None], "run 1 is null"),
        ([10**400], "run 0 is 1000"),
        ([], "an empty list"),
        ("", "an empty text"),
        (None, "null; expected run lengths"),
        (7, "7; expected run lengths"),
        ({}, "expected run lengths"),
        ("T", "ends inside a number"),
        ("o" * 50, "ends inside a number"),
        ("o" * 50 + "0", "a number of 51 characters"),
        ("d0 ", "character 2 is ' '"),
        ("\ud800", "character 0"),
        ("0" * 10, "0 pixels; expected 20"),
        ("O", "a run of -1 pixels"),
    ],
)
def test_what_is_no_mask_is_told(counts: object, says: str) -> None:
    with pytest.raises(WrongRuns, match=says):
        checked_runs(counts, 4, 5)


def test_fifty_thousand_masks_are_checked_in_seconds() -> None:
    text = text_of(drawn(0, 320, 568, 0.003))
    started = time.monotonic()
    for _ in range(5_000):
        checked_runs(text, 320, 568)
    assert time.monotonic() - started < 10
