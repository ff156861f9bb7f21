"""`acga score` on anybody's files: never a hang, a crash or a traceback, and nothing wrong is believed."""

import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Acga
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from malformed import TEXTS, anything, called, mutated
from pycocotools import mask as rle

from data.masks import decode_rle

USAGE = 2
SIZE = (80, 100)
many = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def text(mask: np.ndarray) -> str:
    return str(rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode())


def square(side: int, left: int = 10) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[20 : 20 + side, left : left + side] = 1
    return mask


def encoded(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": text(mask)}


TRUTH: dict[str, Any] = {
    "images": [{"id": "one", "height": 80, "width": 100}, {"id": 2, "height": 80, "width": 100}],
    "annotations": [
        {"id": 1, "image_id": "one", "segmentation": encoded(square(30))},
        {"id": 2, "image_id": 2, "segmentation": {"size": list(SIZE), "counts": [100, 50, 7850]}},
    ],
}
RESULTS: list[Any] = [
    {"image_id": "one", "segmentation": encoded(square(30, 15)), "score": 0.5},
    {"image_id": "one", "segmentation": encoded(square(20)), "score": 1},
    {"image_id": 2, "segmentation": {"size": list(SIZE), "counts": [120, 50, 7830]}, "score": -3.5},
]


def paths(folder: Path, truth: Any = TRUTH, results: Any = RESULTS) -> tuple[str, Path, str, Path]:
    for name, document in (("truth", truth), ("predictions", results)):
        content = document if isinstance(document, str) else json.dumps(document)
        (folder / f"{name}.json").write_text(content, encoding="utf-8")
    return "--truth", folder / "truth.json", "--predictions", folder / "predictions.json"


def result(**fields: Any) -> list[Any]:
    """The results, with other fields in the last one."""
    found = copy.deepcopy(RESULTS)
    found[2] |= fields
    return found


def counts(value: Any) -> list[Any]:
    return result(segmentation={"size": list(SIZE), "counts": value})


def image(**fields: Any) -> dict[str, Any]:
    """The truth, with other fields in its second image."""
    found = copy.deepcopy(TRUTH)
    found["images"][1] = {key: value for key, value in (found["images"][1] | fields).items() if value is not ...}
    return found


def annotation(**fields: Any) -> dict[str, Any]:
    found = copy.deepcopy(TRUTH)
    found["annotations"][1] |= fields
    return found


WHOLE = text(square(30))
OF_RESULTS: dict[str, tuple[Any, str]] = {
    "a sum too small": (counts([10, 5]), "result 2, segmentation.counts: 15 pixels; expected 8000 (80 x 100)"),
    "a sum too large": (counts([7000, 7000]), "result 2, segmentation.counts: 14000 pixels"),
    "truncated": (counts(WHOLE[:-1]), "result 2, segmentation.counts"),
    "garbled": (counts(WHOLE[:4] + "~" + WHOLE[5:]), "result 2, segmentation.counts: character 4 is '~'"),
    "too long": (counts(WHOLE * 2), "result 2, segmentation.counts"),
    "an endless number": (counts("o" * 99), "result 2, segmentation.counts: the text ends inside a number"),
    "floats": (counts([10.0, 7990.0]), "result 2, segmentation.counts: run 0 is 10.0; expected an integer"),
    "negative": (counts([-10, 8010]), "result 2, segmentation.counts: run 0 is -10"),
    "booleans": (counts([True, 7999]), "result 2, segmentation.counts: run 0 is true"),
    "huge": (counts([10**30]), "result 2, segmentation.counts: run 0 is 1000000"),
    "no text": (counts(""), "result 2, segmentation.counts: an empty text"),
    "no list": (counts([]), "result 2, segmentation.counts: an empty list"),
    "null counts": (counts(None), "result 2, segmentation.counts: null"),
    "a null size": (result(segmentation={"size": None, "counts": [8000]}), "result 2, segmentation.size: null"),
    "a size of booleans": (result(segmentation={"size": [True, 1], "counts": [1]}), "segmentation.size: [true, 1]"),
    "a null segmentation": (result(segmentation=None), "result 2, segmentation: null is no run-length encoding"),
    "a polygon": (result(segmentation=[[1, 2, 3, 4]]), "result 2, segmentation"),
    "a null score": (result(score=None), "result 2, score: null; expected a number"),
    "a score in words": (result(score="high"), "result 2, score: 'high'; expected a number"),
    "a boolean score": (result(score=True), "result 2, score: true"),
    "a huge score": (result(score=10**400), "result 2, score: 1000"),
    "no number": (json.dumps(result(score=float("nan"))), "[2].score: NaN; expected a finite number"),
    "an infinite score": (json.dumps(result(score=float("-inf"))), "[2].score: -Infinity"),
    "a score beyond floats": (json.dumps(RESULTS).replace("-3.5", "1e999"), "[2].score: '1e999'"),
    "a list as an id": (result(image_id=[2]), "result 2, image_id: [2]; expected an integer or a text"),
    "a float as an id": (result(image_id=2.0), "result 2, image_id: 2.0"),
    "an unknown id": (result(image_id=3), "result 2, image_id: 3 is no image of the truth"),
    "a duplicate key": (json.dumps(RESULTS).replace('"score": 1}', '"score": 1, "score": 2}'), "[1]: the key 'score'"),
    "half a pair": (json.dumps(result(image_id="\ud800")), "[2].image_id: '\\ud800' holds half"),
    "no object": ([*RESULTS, None], "result 3 is null; expected an object with image_id, segmentation and score"),
    "an object": ({"results": RESULTS}, "expected COCO's form of results"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "deep, closed": ("[" * 5000 + "]" * 5000, "predictions.json"),
    "deep inside": (json.dumps(RESULTS).replace("-3.5", "[" * 400 + "]" * 400), "result 2, score: "),
}
OF_TRUTH: dict[str, tuple[Any, str]] = {
    "an empty image": (image(height=0, width=0), "image 1, height: 0; expected an integer from 1 to 16384"),
    "an absurd image": (image(height=10**9, width=10**9), "image 1, height: 1000000000"),
    "a large image": (image(height=16000, width=16000), "image 1, height and width: 16000 x 16000 pixels"),
    "a line": (image(height=1, width=16384), "image 1, height and width: 1 x 16384 pixels"),
    "an image without height": (image(height=...), "image 1 lacks height"),
    "an image without id": (image(id=...), "image 1 lacks id"),
    "a null id": (image(id=None), "image 1, id: null; expected an integer or a text"),
    "a boolean id": (image(id=True), "image 1, id: true"),
    "a boolean height": (image(height=True), "image 1, height: true"),
    "a float as a height": (image(height=80.0), "image 1, height: 80.0"),
    "a duplicate id": (image(id="one"), "image 1, id: 'one' is the id of an image before it"),
    "no images": ({**TRUTH, "images": []}, "annotation 0, image_id: 'one' is not among the images"),
    "nothing": ({"images": [], "annotations": []}, "0 annotations of 0 images"),
    "null images": ({**TRUTH, "images": None}, "images: null; expected a list"),
    "annotations by id": ({**TRUTH, "annotations": {}}, "annotations: {}; expected a list"),
    "an unhashable id": (annotation(image_id={}), "annotation 1, image_id: {}"),
    "a second annotation": (annotation(image_id="one"), "annotation 1, image_id: image 'one' has two annotations"),
    "one too few": ({**TRUTH, "annotations": TRUTH["annotations"][:1]}, "1 annotation of 2 images, none of image 2"),
    "wrong counts": (annotation(segmentation=encoded(square(9)) | {"counts": [1, 2]}), "counts: 3 pixels"),
    "a number": (7, "7; expected COCO's form, an object"),
}


@pytest.mark.parametrize("case", OF_RESULTS)
def test_wrong_predictions_are_named_in_one_line(acga: Acga, tmp_path: Path, case: str) -> None:
    document, words = OF_RESULTS[case]
    assert_refused(acga, paths(tmp_path, results=document), "predictions.json: ", words)


@pytest.mark.parametrize("case", OF_TRUTH)
def test_a_wrong_truth_is_named_in_one_line(acga: Acga, tmp_path: Path, case: str) -> None:
    document, words = OF_TRUTH[case]
    assert_refused(acga, paths(tmp_path, truth=document), "truth.json: ", words)


def assert_refused(acga: Acga, arguments: tuple[Any, ...], *words: str) -> None:
    started = time.monotonic()
    done = acga("score", *arguments, timeout=60)
    assert time.monotonic() - started < 10
    assert (done.code, done.output) == (USAGE, ""), done.errors
    (line,) = done.errors.splitlines()
    assert line.startswith("acga: ") and len(line) < 700
    for word in words:
        assert word in line


def test_the_valid_files_are_scored(acga: Acga, tmp_path: Path) -> None:
    done = acga("score", *paths(tmp_path), "--json")
    assert done.code == 0 and done.document["images"] == 2


@given(mutated(RESULTS))
@many
def test_no_mutated_prediction_is_believed(tmp_path: Path, found: tuple[tuple[Any, ...], Any, Any]) -> None:
    place, old, document = found
    said = called("score", *paths(tmp_path, results=document), "--json")
    unchanged = json.dumps(document) == json.dumps(RESULTS)  # True is not 1
    assert_refused_unless(said, unchanged or is_valid(document, place, old))


@given(mutated(TRUTH))
@many
def test_no_mutated_truth_is_believed(tmp_path: Path, found: tuple[tuple[Any, ...], Any, Any]) -> None:
    place, _, document = found
    said = called("score", *paths(tmp_path, truth=document), "--json")
    assert_refused_unless(said, place[0] == "annotations" and place[2:] == ("id",))  # no annotation needs an id


def is_valid(document: Any, place: tuple[Any, ...], old: Any) -> bool:
    """A result less, or another finite score, is right too."""
    if len(place) == 1:
        return len(document) < len(RESULTS)
    if place[-1] != "score":
        return False
    value = document[place[0]].get("score")
    return type(value) in (int, float)


def assert_refused_unless(said: Any, right: bool) -> None:
    if right:
        assert said.code == 0 and said.seconds < 10, said.errors
    else:
        said.assert_refused()


@given(anything(), st.booleans())
@many
def test_any_json_is_refused(tmp_path: Path, document: Any, of_truth: bool) -> None:
    given_as = {"truth": document} if of_truth else {"results": document}
    said = called("score", *paths(tmp_path, **given_as))
    assert_refused_unless(said, not of_truth and document == [])


@pytest.mark.parametrize("content", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("name", ["truth", "results"])
def test_text_that_is_no_strict_json_is_refused(tmp_path: Path, name: str, content: str) -> None:
    called("score", *paths(tmp_path, **{name: content})).assert_refused()


@given(st.text([chr(48 + code) for code in range(64)], max_size=40), st.integers(0, 40), st.integers(0, 40))
@many
def test_garbled_run_lengths_never_reach_the_library(tmp_path: Path, garbage: str, start: int, length: int) -> None:
    garbled = WHOLE[:start] + garbage + WHOLE[start + length :]
    said = called("score", *paths(tmp_path, results=counts(garbled)), "--json")
    if said.code == 0:  # then the library, too, reads it as runs that fill the mask
        assert set(np.unique(decode_rle({"size": list(SIZE), "counts": garbled}))) <= {0, 1}
    else:
        said.assert_refused()


def test_empty_runs_between_others_do_not_end_a_mask(acga: Acga, tmp_path: Path) -> None:
    """COCO's library takes two empty runs at one pixel for the end; the mask is written anew without them."""
    runs = [100, 25, 0, 25, 7850]
    truth = annotation(segmentation={"size": list(SIZE), "counts": runs})
    done = acga("score", *paths(tmp_path, truth=truth, results=counts(runs)), "--json")
    plain = acga("score", *paths(tmp_path, results=counts([100, 50, 7850])), "--json")
    assert done.document == plain.document


def flat(intersection: int, union: int) -> tuple[dict[str, Any], list[Any]]:
    """A truth of `union` pixels, of which a prediction covers `intersection`."""
    truth = {
        "images": [{"id": 1, "height": 80, "width": 100}],
        "annotations": [{"image_id": 1, "segmentation": {"size": list(SIZE), "counts": [0, union, 8000 - union]}}],
    }
    covered = {"size": list(SIZE), "counts": [0, intersection, 8000 - intersection]}
    return truth, [{"image_id": 1, "segmentation": covered, "score": 0.5}]


@pytest.mark.parametrize(
    ("areas", "threshold", "of_coco"),
    [
        ((300, 600), "0.5", 0),
        ((301, 600), "0.5", 1),
        ((300, 500), "0.6", 1),  # the float32 number next to 3/5 lies above 0.6
        ((3, 5), "0.6", 1),
        ((700, 1000), "0.7", 0),  # that next to 7/10 lies below 0.7
        ((900, 1000), "0.9", 0),
    ],
)
def test_precision_of_coco_counts_float32_ious_above_the_threshold(
    acga: Acga, tmp_path: Path, areas: tuple[int, int], threshold: str, of_coco: int
) -> None:
    found = acga("score", *paths(tmp_path, *flat(*areas)), "--json").document["protocols"]
    assert found["coco"]["precision"][threshold] == of_coco


def test_of_equal_scores_coco_takes_the_last_and_acga_masks_the_first(acga: Acga, tmp_path: Path) -> None:
    truth, (right,) = flat(600, 600)
    _, (wrong,) = flat(60, 600)
    for candidates, in_coco, in_acga in (([right, wrong], 0.1, 1), ([wrong, right], 1, 0.1)):
        found = acga("score", *paths(tmp_path, truth, candidates), "--json").document["protocols"]
        assert found["coco"]["mean_iou"] == pytest.approx(in_coco, abs=1e-6)
        assert found["acga_masks"]["mean_iou"] == pytest.approx(in_acga, abs=0.15)
    lower = [right, {**wrong, "score": 0.4}]
    found = acga("score", *paths(tmp_path, truth, lower), "--json").document["protocols"]
    assert found["coco"]["mean_iou"] == pytest.approx(1)


def test_ties_of_several_images_rank_by_id_whatever_the_order_of_the_file(acga: Acga, tmp_path: Path) -> None:
    truth, (right,) = flat(600, 600)
    _, (wrong,) = flat(60, 600)
    for ids, expected in (((1, 2), 51 / 101), ((2, 1), 51 / 101 / 2)):
        images = [truth["images"][0] | {"id": id} for id in ids]
        annotations = [truth["annotations"][0] | {"image_id": id} for id in ids]
        results = [right | {"image_id": ids[0]}, wrong | {"image_id": ids[1]}]
        document = {"images": images, "annotations": annotations}
        found = acga("score", *paths(tmp_path, document, results), "--json").document["protocols"]
        assert found["coco"]["map"] == pytest.approx(expected)


def test_one_image_is_told_in_the_singular(acga: Acga, tmp_path: Path) -> None:
    done = acga("score", *paths(tmp_path, results=RESULTS[2:]))
    assert "1 image has no prediction and counts as predicted empty" in done.output
    done = acga("score", *paths(tmp_path, results=[]))
    assert "2 images have no prediction and count as predicted empty" in done.output
    assert "(1 sample)" in acga("score", *paths(tmp_path, *flat(1, 2))).output
