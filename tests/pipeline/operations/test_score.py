"""`acga score`: anybody's masks in COCO's formats, under both protocols."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commands import Acga
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

USAGE = 2
SIZE = (96, 128)


def encoded(mask: np.ndarray) -> dict[str, Any]:
    found = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2).astype(np.uint8)


def masks(count: int) -> tuple[list[np.ndarray], list[list[tuple[np.ndarray, float]]]]:
    """Discs, and one to three shifted ones predicted for each but the last."""
    rng = np.random.default_rng(0)
    truths = [disc(rng.uniform(30, 98), rng.uniform(30, 66), rng.uniform(12, 28)) for _ in range(count)]
    predictions = [
        [(np.roll(truth, int(rng.integers(-9, 10)), axis=1), float(rng.random())) for _ in range(rng.integers(1, 4))]
        for truth in truths[:-1]
    ]
    return truths, [*predictions, []]


def files(
    folder: Path, truths: list[np.ndarray], predictions: list[list[tuple[np.ndarray, float]]]
) -> tuple[Path, Path]:
    names = [f"v_{number}_f_1_i_0" for number in range(len(truths))]
    truth = {
        "images": [{"id": name, "height": SIZE[0], "width": SIZE[1]} for name in names],
        "categories": [{"id": 1, "name": "dummy_class"}],
        "annotations": [
            {
                "id": number,
                "image_id": name,
                "category_id": 1,
                "iscrowd": 0,
                "segmentation": encoded(mask),
                "area": int(mask.sum()),
                "bbox": rle.toBbox(encoded(mask)).tolist(),
            }
            for number, (name, mask) in enumerate(zip(names, truths, strict=True), start=1)
        ],
    }
    results = [
        {"image_id": name, "category_id": 1, "segmentation": encoded(mask), "score": confidence}
        for name, candidates in zip(names, predictions, strict=True)
        for mask, confidence in candidates
    ]
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "predictions.json").write_text(json.dumps(results))
    return folder / "truth.json", folder / "predictions.json"


def score(acga: Acga, truth: Path, predictions: Path) -> dict[str, Any]:
    done = acga("score", "--truth", truth, "--predictions", predictions, "--json")
    assert done.code == 0, done.errors
    return done.document


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float(((one & other).sum() + 1e-6) / ((one | other).sum() + 1e-6))


def test_perfect_masks_score_one_as_they_are_and_nearly_so_through_the_letterbox(acga: Acga, tmp_path: Path) -> None:
    truths, _ = masks(4)
    found = score(acga, *files(tmp_path, truths, [[(mask, 0.5)] for mask in truths]))["protocols"]
    assert found["coco"]["mean_iou"] == pytest.approx(1) and found["coco"]["map"] == pytest.approx(1)
    assert found["acga_masks"]["mean_iou"] > 0.95


def test_scores_are_those_of_pycocotools_and_of_plain_counting(acga: Acga, tmp_path: Path) -> None:
    truths, predictions = masks(12)
    paths = files(tmp_path, truths, predictions)
    found = score(acga, *paths)
    assert (found["images"], found["without_prediction"]) == (12, 1)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(paths[0]))
        evaluation = COCOeval(truth, truth.loadRes(str(paths[1])), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert found["protocols"]["coco"]["map"] == pytest.approx(evaluation.stats[0], abs=1e-9)
    best = [max(one, key=lambda pair: pair[1])[0] if one else np.zeros(SIZE, np.uint8) for one in predictions]
    ious = [iou(mask, guess) for mask, guess in zip(truths, best, strict=True)]
    assert found["protocols"]["coco"]["mean_iou"] == pytest.approx(np.mean(ious), abs=1e-9)
    assert found["protocols"]["coco"]["precision"]["0.6"] == pytest.approx(np.mean(np.array(ious) > 0.6))


def test_acgas_truth_goes_through_the_square_of_512_and_back(acga: Acga, tmp_path: Path) -> None:
    truths, predictions = masks(12)
    found = score(acga, *files(tmp_path, truths, predictions))["protocols"]["acga_masks"]
    best = [max(one, key=lambda pair: pair[1])[0] if one else np.zeros(SIZE, np.uint8) for one in predictions]
    ious = []
    for mask, guess in zip(truths, best, strict=True):
        square = np.zeros((512, 512), np.uint8)
        square[64:448] = cv2.resize(mask, (512, 384), interpolation=cv2.INTER_NEAREST_EXACT)
        back = cv2.resize(square, (128, 128), interpolation=cv2.INTER_LINEAR)[16:112]
        ious.append(iou(back, guess))
    thresholds = [percent / 100 for percent in range(50, 100, 5)]
    assert found["mean_iou"] == pytest.approx(np.mean(ious), abs=1e-9)
    assert found["map"] == pytest.approx(np.mean([np.mean(np.array(ious) >= threshold) for threshold in thresholds]))


def test_plain_run_lengths_are_read_too(acga: Acga, tmp_path: Path) -> None:
    truths, predictions = masks(3)
    truth, given = files(tmp_path, truths, predictions)
    expected = score(acga, truth, given)
    document = json.loads(truth.read_text())
    for annotation, mask in zip(document["annotations"], truths, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.flatten(order="F"), [0]])))
        counts = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
        annotation["segmentation"] = {"size": list(SIZE), "counts": counts}
    truth.write_text(json.dumps(document))
    assert score(acga, truth, given) == expected


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda truth, results: truth.pop("images"), "images"),
        (lambda truth, results: truth["annotations"].append(truth["annotations"][0]), "two annotations"),
        (lambda truth, results: truth["annotations"].pop(), "2 annotations of 3 images"),
        (lambda truth, results: results[0].update(image_id="other"), "'other'"),
        (lambda truth, results: results[0].pop("score"), "result 0 lacks"),
        (lambda truth, results: results[0]["segmentation"].update(size=[5, 5]), "(5, 5) pixels, expected (96, 128)"),
        (lambda truth, results: results[0].update(segmentation=[1, 2, 3]), "no run-length encoding"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(acga: Acga, tmp_path: Path, edit: Any, words: str) -> None:
    truth, given = files(tmp_path, *masks(3))
    documents = json.loads(truth.read_text()), json.loads(given.read_text())
    edit(*documents)
    truth.write_text(json.dumps(documents[0]))
    given.write_text(json.dumps(documents[1]))
    done = acga("score", "--truth", truth, "--predictions", given)
    assert done.code == USAGE and "Traceback" not in done.errors
    assert words in done.errors


def test_files_that_are_not_there_or_no_json_are_refused(acga: Acga, tmp_path: Path) -> None:
    truth, given = files(tmp_path, *masks(3))
    assert acga("score", "--truth", tmp_path / "none.json", "--predictions", given).code == USAGE
    given.write_text("not json")
    done = acga("score", "--truth", truth, "--predictions", given)
    assert done.code == USAGE and "not JSON" in done.errors
