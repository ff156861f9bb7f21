"""Bootstrap intervals of scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle

from models.evaluation.bootstrap import Samples, average_precision, draws, intervals
from models.evaluation.metrics import NoSamples, Overlap, acga_scores, coco_scores, overlap, ranked_precision


def masks(count: int, seed: int) -> list[dict]:
    """Random masks of 6 x 6 pixels, most of them like those of the same place for another seed."""
    noise = np.random.default_rng(seed).random((count, 6, 6))
    shared = np.random.default_rng(99).random((count, 6, 6))
    return [rle.encode(np.asfortranarray(mask)) for mask in (0.3 * noise + 0.7 * shared > 0.5).astype(np.uint8)]


def test_a_draw_counts_all_samples_of_a_video_equally_often():
    videos = ["b", "a", "b", "c"]
    for weights in draws(videos, 50, seed=3):
        assert weights[0] == weights[2]
        assert weights[0] + weights[1] + weights[3] == 3, "as many videos as there are"


def test_draws_are_a_pure_function_of_the_seed():
    first, again, other = (draws(list("abcdefgh"), 4, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_when_every_sample_counts_once_the_scores_are_the_protocols():
    predictions, truths = masks(12, 1), masks(12, 2)
    confidences = [float(value) for value in np.random.default_rng(5).random(12).round(1)]  # some are equal
    overlaps = [overlap(one, other) for one, other in zip(predictions, truths, strict=True)]
    ious, once = np.array([each.iou for each in overlaps]), np.ones(12, np.int64)
    parts = (ious, np.array([e.intersection for e in overlaps]), np.array([e.union for e in overlaps]))
    for expected, of_samples in (
        (acga_scores(overlaps), Samples(*parts, None)),
        (coco_scores(predictions, confidences, truths), Samples(*parts, np.array(confidences))),
    ):
        found = of_samples.scores(once)
        assert 0 < expected.map < 1
        for name in ("mean_iou", "overall_iou", "map"):
            assert found[name] == pytest.approx(getattr(expected, name), abs=1e-9)
        for at, value in expected.precision.items():
            assert found[f"precision {at}"] == pytest.approx(value, abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.lists(st.integers(0, 3), min_size=5, max_size=5).filter(any))
def test_a_weight_is_as_good_as_a_repetition(seed, weights):
    predictions, truths = masks(5, seed), masks(5, seed + 1)
    confidences = np.random.default_rng(seed).random(5)
    repeated = [place for place, count in enumerate(weights) for _ in range(count)]
    expected = ranked_precision(
        [[(predictions[place], float(confidences[place]))] for place in repeated], [truths[place] for place in repeated]
    )
    ious = np.array([overlap(one, other).iou for one, other in zip(predictions, truths, strict=True)])
    found = [average_precision(ious >= percent / 100, confidences, np.array(weights)) for percent in range(50, 100, 5)]
    assert np.mean(found) == pytest.approx(expected, abs=1e-9)


def test_intervals_enclose_the_score_and_shrink_with_more_videos():
    widths = []
    for count in (20, 2000):
        ious = np.random.default_rng(0).integers(0, 101, count)
        overlaps = [Overlap(int(value), 100) for value in ious]
        low, high = intervals(overlaps, None, [str(place) for place in range(count)], 400, seed=0)["mean_iou"]
        assert low < ious.mean() / 100 < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(4 * 0.2915 / np.sqrt(2000), rel=0.15), "1.96 standard errors on both sides"
    assert widths[0] > 5 * widths[1]


def test_samples_of_one_video_make_no_interval():
    found = intervals([Overlap(1, 2), Overlap(2, 2)], [0.5, 0.6], ["only", "only"], 10, seed=0)
    assert all(low == high for low, high in found.values())


def test_nothing_has_no_interval():
    with pytest.raises(NoSamples):
        intervals([], None, [], 10, seed=0)
