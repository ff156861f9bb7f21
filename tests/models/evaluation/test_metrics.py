import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as rle

from data.letterbox import Letterbox
from models.evaluation.bootstrap import Samples
from models.evaluation.metrics import (
    FrameSizeMismatch,
    NoSamples,
    Overlap,
    UnequalCounts,
    acga_prediction,
    acga_scores,
    acga_truth,
    average_precision,
    coco_prediction,
    coco_scores,
    overlap,
    precision_above,
)
from pipeline.audit.checks import scores as scores_of_audit

THREE = Letterbox(3, 3, 3)


def encoded(mask: object) -> dict:
    return rle.encode(np.asfortranarray(np.asarray(mask, dtype=np.uint8)))


def naive_average_precision(ious: list[float], confidences: list[float]) -> float:
    """Return COCO's average precision where every image has one truth and one prediction, from its definition."""
    order = sorted(range(len(ious)), key=lambda place: -confidences[place])
    averages = []
    for threshold in np.linspace(0.5, 0.95, 10):
        right = np.cumsum([ious[place] >= threshold for place in order])
        recall, precision = right / len(ious), right / np.arange(1, len(ious) + 1)
        levels = []
        for level in np.linspace(0, 1, 101):
            reached = precision[recall >= level]
            levels.append(reached.max() if len(reached) else 0.0)
        averages.append(np.mean(levels))
    return float(np.mean(averages))


def of_evaluator(intersection: int, union: int) -> float:
    """Return the IoU that the evaluator of MTTR compares with its thresholds, by its own steps in torch."""
    areas = torch.tensor([intersection, union]).float() + 1e-6
    return float((areas[0] / areas[1]).item())


masks = arrays(np.uint8, (4, 5), elements=st.integers(0, 1))
mask_pairs = st.lists(st.tuples(masks, masks), min_size=1, max_size=8)


def test_acga_takes_what_exceeds_half_of_the_maps_own_maximum():
    # Probabilities 0.3 (the maximum), 0.16 and 0.14 about half of it, and 0.01: none is likelier than not.
    probability = torch.tensor([[0.30, 0.16, 0.14], [0.01, 0.01, 0.01], [0.01, 0.01, 0.01]])
    assert acga_prediction(probability.logit(), THREE).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_acga_makes_a_flat_map_all_foreground():
    assert acga_prediction(torch.full((3, 3), -9.0), THREE).all()


def test_acga_maps_the_square_back_to_the_frame():
    box = Letterbox(2, 4, 4)  # rows 1 and 2 of the square are the frame
    response = torch.full((4, 4), -9.0)
    response[1, 2:] = 9
    assert acga_prediction(response, box).tolist() == [[0, 0, 1, 1], [0, 0, 0, 0]]
    assert acga_truth((response > 0).to(torch.uint8).numpy(), box).tolist() == [[0, 0, 1, 1], [0, 0, 0, 0]]


def test_coco_takes_what_is_likelier_than_not_and_is_confident_by_its_mean():
    probability = torch.tensor([[0.9, 0.7, 0.49], [0.1, 0.1, 0.1], [0.1, 0.1, 0.1]])
    mask, confidence = coco_prediction(probability.logit(), THREE)
    assert mask.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert confidence == pytest.approx(0.8)


def test_coco_may_predict_nothing_with_no_confidence():
    mask, confidence = coco_prediction(torch.full((3, 3), -1.0), THREE)
    assert not mask.any() and confidence == 0


def test_coco_cuts_the_padding_off_before_it_enlarges():
    box = Letterbox(4, 8, 4)  # rows 1 and 2 of the square are the frame, twice as large
    response = torch.full((4, 4), 9.0)
    response[1:3] = -9
    response[1:3, 0] = 9
    mask, _ = coco_prediction(response, box)
    assert mask.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0]] * 4


def test_overlaps_count_pixels():
    found = overlap(encoded([[1, 1, 0], [1, 0, 0], [0, 0, 0]]), encoded([[0, 1, 1], [1, 0, 0], [0, 0, 0]]))
    assert found == Overlap(intersection=2, union=4)
    assert found.iou == pytest.approx(0.5)


def test_three_samples_worked_by_hand():
    scores = acga_scores([Overlap(2, 4), Overlap(3, 4), Overlap(0, 2)])
    assert scores.mean_iou == pytest.approx((0.5 + 0.75 + 0) / 3)
    assert scores.overall_iou == pytest.approx(5 / 10)
    assert scores.precision == pytest.approx({"0.5": 2 / 3, "0.6": 1 / 3, "0.7": 1 / 3, "0.8": 0, "0.9": 0})
    # .50 is reached by two samples; .55, .60, .65, .70 and .75 by one.
    assert scores.map == pytest.approx((2 / 3 + 5 / 3) / 10)
    assert scores.samples == 3


def test_an_iou_at_a_threshold_reaches_it():
    assert acga_scores([Overlap(7, 10)]).precision["0.7"] == 1


@pytest.mark.parametrize(
    ("intersection", "union", "threshold", "above"),
    [
        (300, 600, "0.5", False),  # exact in float32
        (1, 2, "0.5", True),  # the evaluator's 1e-6 decides for masks of few pixels
        (3, 5, "0.6", True),
        (300, 500, "0.6", True),  # the float32 number next to 0.6 lies above it
        (299, 500, "0.6", False),
        (700, 1000, "0.7", False),  # that next to 0.7 lies below it
        (800, 1000, "0.8", True),
        (900, 1000, "0.9", False),
    ],
)
def test_an_iou_on_a_threshold_counts_in_coco_as_in_the_evaluator_and_always_in_acga(
    intersection: int, union: int, threshold: str, above: bool
) -> None:
    found = [Overlap(intersection, union)]
    assert (of_evaluator(intersection, union) > float(threshold)) is above  # so the numbers above are right
    assert precision_above(found)[threshold] == above
    assert acga_scores(found).precision[threshold] == (intersection / union >= float(threshold))


@given(st.lists(st.integers(1, 5000).flatmap(lambda union: st.tuples(st.integers(0, union), st.just(union)))))
@settings(max_examples=200, deadline=None)
def test_all_who_count_ious_count_them_as_the_evaluator_does(areas: list[tuple[int, int]]) -> None:
    areas = [*areas, (1, 2), (30, 50), (70, 100)]
    overlaps = [Overlap(*each) for each in areas]
    expected = {str(at): np.mean([of_evaluator(*each) > at for each in areas]) for at in (0.5, 0.6, 0.7, 0.8, 0.9)}
    assert precision_above(overlaps) == pytest.approx(expected, abs=1e-12)
    assert scores_of_audit.coco(areas, [0.5] * len(areas))["precision"] == pytest.approx(expected, abs=1e-12)
    weights = np.ones(len(areas), np.int64)
    parts = (np.array([each.iou for each in overlaps]), *np.array(areas).T, np.full(len(areas), 0.5))
    drawn = Samples(*parts).scores(weights)
    assert {at: drawn[f"precision {at}"] for at in expected} == pytest.approx(expected, abs=1e-12)


def test_the_same_masks_score_differently_in_the_two_protocols():
    truth = encoded([[1, 1, 0], [0, 0, 0], [0, 0, 0]])
    wrong = encoded([[0, 0, 0], [0, 0, 0], [0, 1, 1]])
    predictions, truths = [truth, wrong], [truth, truth]
    assert acga_scores([overlap(*pair) for pair in zip(predictions, truths, strict=True)]).map == 0.5
    # Half the recall is reached: at 51 of 101 levels, with precision 1 or 1/2 by rank.
    assert coco_scores(predictions, [0.9, 0.1], truths).map == pytest.approx(51 / 101)
    assert coco_scores(predictions, [0.1, 0.9], truths).map == pytest.approx(51 / 101 / 2)


@given(mask_pairs, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_scores_agree_with_numpy_and_do_not_depend_on_order(pairs, random):
    predictions, truths = ([encoded(pair[side]) for pair in pairs] for side in (0, 1))
    confidences = [place / 10 for place in range(len(pairs))]
    random.shuffle(confidences)
    both = [int((one & other).sum()) for one, other in pairs]
    either = [int((one | other).sum()) for one, other in pairs]
    ious = [(common + 1e-6) / (union + 1e-6) for common, union in zip(both, either, strict=True)]
    overlaps = [overlap(*pair) for pair in zip(predictions, truths, strict=True)]
    assert overlaps == [Overlap(*areas) for areas in zip(both, either, strict=True)]
    acga, coco = acga_scores(overlaps), coco_scores(predictions, confidences, truths)
    for scores in (acga, coco):
        assert scores.mean_iou == pytest.approx(np.mean(ious))
        assert scores.overall_iou == pytest.approx(sum(both) / sum(either) if sum(either) else 1)
    single = [of_evaluator(common, union) for common, union in zip(both, either, strict=True)]
    assert coco.precision == {str(at): np.mean([iou > at for iou in single]) for at in (0.5, 0.6, 0.7, 0.8, 0.9)}
    # For pycocotools an empty mask overlaps nothing, an empty one neither.
    overlapping = [common / union if union else 0 for common, union in zip(both, either, strict=True)]
    assert coco.map == pytest.approx(naive_average_precision(overlapping, confidences))

    order = list(range(len(pairs)))
    random.shuffle(order)
    turned = [[values[place] for place in order] for values in (predictions, confidences, truths)]
    assert coco_scores(*turned).map == pytest.approx(coco.map)
    assert acga_scores([overlaps[place] for place in order]).map == pytest.approx(acga.map)


@given(st.lists(masks.filter(np.any), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_perfect_masks_score_one(drawn):
    truths = [encoded(mask) for mask in drawn]
    for scores in (
        acga_scores([overlap(truth, truth) for truth in truths]),
        coco_scores(truths, [0.5] * len(truths), truths),
    ):
        assert (scores.mean_iou, scores.overall_iou, scores.map) == pytest.approx((1, 1, 1))
        assert set(scores.precision.values()) == {1}


def test_two_empty_masks_agree():
    empty = encoded(np.zeros((3, 3)))
    scores = acga_scores([overlap(empty, empty)])
    assert (scores.mean_iou, scores.overall_iou, scores.map) == (1, 1, 1)


def test_average_precision_prints_nothing(capsys):
    average_precision([encoded([[1]])], [0.5], [encoded([[1]])])
    assert capsys.readouterr().out == ""


def test_masks_from_json_are_read():
    truth = encoded([[1, 0], [0, 1]])
    stored = {"size": truth["size"], "counts": truth["counts"].decode()}
    assert overlap(stored, truth) == Overlap(2, 2)
    assert coco_scores([stored], [0.5], [stored]).map == pytest.approx(1)


def test_nothing_to_score_is_refused():
    with pytest.raises(NoSamples):
        acga_scores([])


def test_unequal_counts_are_refused():
    with pytest.raises(UnequalCounts, match="1 prediction, 0 confidences and 1 truth:"):
        coco_scores([encoded([[1]])], [], [encoded([[1]])])


def test_masks_of_different_frames_are_refused():
    with pytest.raises(FrameSizeMismatch, match=r"\(1, 2\).*\(1, 1\)"):
        overlap(encoded([[1, 1]]), encoded([[1]]))
