"""The audit's own metrics: written anew, they must give what `models.evaluation.metrics` and
`models.evaluation.bootstrap` give."""

from dataclasses import asdict

import numpy as np
import pytest

from data.masks import encode_rle
from models.evaluation.bootstrap import intervals
from models.evaluation.metrics import Overlap, acga_scores, coco_scores
from pipeline.audit.checks import scores
from pipeline.audit.checks.report_numbers import printed, table

SIDE = 12


def drawn(samples: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray], list[float]]:
    """Predicted and true masks, some of them equal, some empty, and confidences, some of them equal."""
    generator = np.random.default_rng(seed)
    truths = [generator.integers(0, 2, (SIDE, SIDE)).astype(np.uint8) for _ in range(samples)]
    masks = []
    for truth in truths:
        noise = generator.random((SIDE, SIDE)) < generator.choice([0.0, 0.1, 0.2, 0.5])
        masks.append(np.where(noise, 1 - truth, truth).astype(np.uint8) * (generator.random() > 0.1))
    return masks, truths, [float(value) for value in generator.integers(0, 20, samples) / 20]


def overlaps(masks: list[np.ndarray], truths: list[np.ndarray]) -> list[tuple[int, int]]:
    return [scores.overlap(one.astype(bool), other.astype(bool)) for one, other in zip(masks, truths, strict=True)]


# With 100 samples recalls fall on the 101 points of COCO's average precision, where the last bit decides.
@pytest.mark.parametrize("samples", [1, 7, 100, 200])
def test_scores_are_those_of_the_metrics(samples: int) -> None:
    masks, truths, confidences = drawn(samples, samples)
    found = overlaps(masks, truths)
    of_acga = acga_scores([Overlap(*each) for each in found])
    assert scores.flat(scores.acga(found)) == pytest.approx(scores.flat(asdict(of_acga)), abs=1e-9)
    of_coco = coco_scores([encode_rle(mask) for mask in masks], confidences, [encode_rle(mask) for mask in truths])
    assert scores.flat(scores.coco(found, confidences)) == pytest.approx(scores.flat(asdict(of_coco)), abs=1e-9)


@pytest.mark.parametrize("samples", [1, 7, 100])
@pytest.mark.parametrize("ranked", [False, True])
def test_intervals_are_those_of_the_bootstrap(samples: int, ranked: bool) -> None:
    masks, truths, values = drawn(samples, samples)
    confidences = values if ranked else None
    videos = [f"video {place // 3}" for place in range(samples)]
    found = overlaps(masks, truths)
    ours = scores.intervals(found, confidences, videos, 200, 5)
    theirs = intervals([Overlap(*each) for each in found], confidences, videos, 200, 5)
    assert ours.keys() == theirs.keys()
    for name, bounds in ours.items():
        assert bounds == pytest.approx(theirs[name], abs=1e-9)


PAGE = """<table>
  <tr><th>protocol<th>samples</tr>
  <tr class="ours"><td>acga<td>3</tr>
</table><table>
  <tr><th>attribute<th>samples<th>P@0.5<th>mean IoU</tr>
  <tr><td>colour<td>2<td>50.0<td>
    61.3</tr>
</table>"""
GROUP = {"samples": 2, "precision": {"0.5": 0.5}, "mean_iou": 0.6132}


def test_a_table_is_found_by_its_first_heading() -> None:
    assert table(PAGE, "protocol") == {"acga": ["3"]}
    assert table(PAGE, "attribute") == {"colour": ["2", "50.0", "61.3"]}
    assert table(PAGE, "mean IoU over seeds") == {}


def test_what_the_page_says_otherwise_is_named() -> None:
    other = PAGE.replace("61.3", "71.3")
    whole = PAGE.replace('<tr class="ours"><td>acga<td>3</tr>', "")
    assert list(printed(whole, {"protocols": {}, "groups": {"colour": GROUP}}, {})) == []
    (said,) = printed(
        other.replace('<tr class="ours"><td>acga<td>3</tr>', ""), {"protocols": {}, "groups": {"colour": GROUP}}, {}
    )
    assert "71.3" in said and "61.3" in said and "colour" in said
    assert len(list(printed(whole, {"protocols": {}, "groups": {}}, {}))) == 1
    seeds = {"acga": {"each": [0.5, 0.6], "mean": 0.55, "deviation": 0.0707}}
    assert len(list(printed(whole, {"protocols": {}, "groups": {"colour": GROUP}}, seeds))) == 1
