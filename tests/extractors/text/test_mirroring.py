import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.text.mirroring import mirrored

WORDS = ("left", "right", "Left", "RIGHT", "leftmost", "right-hand", "the", "upright", "cat", "bright", "-", ",", "on")


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("a man on the left side of the dog", "a man on the right side of the dog"),
        ("from left to right running", "from right to left running"),
        ("Left, then RIGHT.", "Right, then LEFT."),
        ("the leftmost and the right most cat", "the rightmost and the left most cat"),
        ("the left-hand ball, right-most, rightward", "the right-hand ball, left-most, leftward"),
        ("lefthand rightside Right-handed", "righthand leftside Left-handed"),
        ("an upright, bright cat cleft by righteous frights", "an upright, bright cat cleft by righteous frights"),
        ("a cat is climbing", "a cat is climbing"),
        ("", ""),
    ],
)
def test_left_and_right_are_swapped(sentence, expected):
    assert mirrored(sentence) == expected


@given(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join))
def test_twice_mirrored_is_as_before(sentence):
    assert mirrored(mirrored(sentence)) == sentence


@given(st.text(max_size=30).filter(lambda text: "left" not in text.lower() and "right" not in text.lower()))
def test_other_sentences_stay_as_they_are(sentence):
    assert mirrored(sentence) == sentence
