"""J, F and J&F: worked by hand, by their definition pixel by pixel, and as the package vos-benchmark computes them."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from data.masks import encode_rle
from data.readers import a2d, jhmdb
from models.evaluation.metrics import FrameSizeMismatch, NoSamples, UnequalCounts
from models.evaluation.region_boundary import (
    RegionBoundary,
    contour,
    expression_scores,
    frame_scores,
    mean_of_annotators,
    mean_of_expressions,
)

EXACT = 1e-9  # the reference divides the same whole numbers; 1e-6 is what is asked for
DAVIS = (480, 854)
SIZES = (DAVIS, (101, 67), (75, 100), (300, 400), (13, 250), (31, 1), (1, 40), (2, 2))  # some diagonals are whole


def reference(module: str) -> ModuleType:
    """A module of vos-benchmark, which the project's environment leaves out since it asks for opencv-python."""
    return pytest.importorskip(f"vos_benchmark.{module}", reason="vos-benchmark and scikit-image are not installed")


def of_reference(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return J and F of one frame by vos-benchmark; without the second line it skips frames in which all is empty."""
    evaluator = reference("evaluator").Evaluator()
    evaluator.objects_in_gt.add(1)
    evaluator.feed_frame(prediction, truth)
    return evaluator.object_iou[1][0], evaluator.boundary_f[1][0]


def agrees(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Compare one frame with the reference, and return J and F."""
    found = frame_scores(prediction, truth)
    region, boundary = of_reference(prediction, truth)
    assert (found.region, found.boundary) == pytest.approx((region, boundary), abs=EXACT)
    assert found.mean == pytest.approx((region + boundary) / 2, abs=EXACT)
    assert 0 <= found.region <= 1 and 0 <= found.boundary <= 1
    return found.region, found.boundary


def by_definition(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return J and F of one frame from their definition, one pixel after the other."""

    def edge(mask: np.ndarray) -> list[tuple[int, int]]:
        height, width = mask.shape
        return [
            (y, x)
            for y, x in np.ndindex(height, width)
            if any(
                mask[y, x] != mask[y + down, x + right]
                for down, right in ((0, 1), (1, 0), (1, 1))
                if y + down < height and x + right < width
            )
        ]

    def matched(these: list[tuple[int, int]], those: list[tuple[int, int]]) -> float:
        close = [min((y - v) ** 2 + (x - u) ** 2 for v, u in those) <= radius**2 for y, x in these]
        return sum(close) / len(close)

    radius = int(np.ceil(0.008 * np.sqrt(prediction.shape[0] ** 2 + prediction.shape[1] ** 2)))
    union = int((prediction | truth).sum())
    region = int((prediction & truth).sum()) / union if union else 1.0
    ours, theirs = edge(prediction), edge(truth)
    if not ours or not theirs:
        return region, 1.0 if ours == theirs else 0.0
    precision, recall = matched(ours, theirs), matched(theirs, ours)
    return region, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw an object as masks show them: ellipses and polygons, some over the border, with holes and apart."""
    mask = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(1, 5)):
        centre = (int(rng.integers(-width // 8, width + width // 8)), int(rng.integers(0, height + 1)))
        if rng.random() < 0.6:
            axes = (int(rng.integers(1, width // 4 + 2)), int(rng.integers(1, height // 3 + 2)))
            cv2.ellipse(mask, centre, axes, float(rng.integers(180)), 0, 360, int(rng.random() < 0.8), -1)
        else:
            corners = rng.normal(centre, (width / 8 + 1, height / 6 + 1), (int(rng.integers(3, 9)), 2))
            cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
    return mask


def perturbed(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Predict a mask as networks do: shifted, thinner, thicker, frayed, speckled, in blocks, cut off or quite wrong."""
    height, width = mask.shape
    by = (int(rng.integers(-height // 20 - 1, height // 20 + 2)), int(rng.integers(-width // 20 - 1, width // 20 + 2)))
    kernel = np.ones((int(rng.integers(1, 9)), int(rng.integers(1, 9))), np.uint8)
    noise = (rng.random((height, width)) < 0.02).astype(np.uint8)
    small = cv2.resize(mask, (max(width // 8, 1), max(height // 8, 1)), interpolation=cv2.INTER_NEAREST)
    cut = mask.copy()
    cut[:, : int(rng.integers(width + 1))] = 0
    ways = (
        np.roll(mask, by, (0, 1)),
        cv2.erode(mask, kernel),
        cv2.dilate(mask, kernel),
        mask ^ cv2.dilate(noise, np.ones((2, 2), np.uint8)) & cv2.dilate(mask, kernel),
        mask ^ noise,
        cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST),
        cut,
        blobs(rng, height, width),
        1 - mask,
    )
    return ways[int(rng.integers(len(ways)))]


def peculiar(height: int, width: int) -> dict[str, np.ndarray]:
    """Masks at the edges of the definition."""
    empty = np.zeros((height, width), np.uint8)
    found = {"empty": empty, "full": empty + 1}
    for name, place in {
        "first pixel": (0, 0),
        "last pixel": (-1, -1),
        "pixel on the left": (height // 2, 0),
        "pixel on the right": (height // 2, -1),
        "pixel below": (-1, width // 2),
        "pixel inside": (height // 2, width // 2),
        "top row": (0, slice(None)),
        "last row": (-1, slice(None)),
        "left column": (slice(None), 0),
        "right column": (slice(None), -1),
        "row": (height // 2, slice(None)),
        "lower half": (slice(height // 2, None), slice(None)),
        "right half": (slice(None), slice(width // 2, None)),
        "stripes": (slice(None), slice(None, None, 2)),
    }.items():
        found[name] = empty.copy()
        found[name][place] = 1
    found["all but the last pixel"] = 1 - found["last pixel"]
    found["diagonal"] = cv2.line(empty.copy(), (0, 0), (width - 1, height - 1), 1)
    return found


def test_a_frame_worked_by_hand() -> None:
    """A square of 2 x 2 and one of its columns: their contours have 8 and 6 pixels, which lie up and left of them."""
    truth = np.zeros((100, 200), np.uint8)  # a diagonal of 223.6 pixels: contours match within 2
    truth[10:12, 20:22] = 1
    prediction = truth.copy()
    prediction[:, 21:] = 0
    assert np.argwhere(contour(truth)).tolist() == [
        *([9, 19], [9, 20], [9, 21]),
        *([10, 19], [10, 21]),
        *([11, 19], [11, 20], [11, 21]),
    ]
    assert contour(prediction).sum() == 6
    assert frame_scores(prediction, truth) == RegionBoundary(region=0.5, boundary=1.0)
    away = np.roll(prediction, 5, axis=1)  # columns 24 and 25 against 19 to 21: none within 2 pixels
    assert frame_scores(away, truth) == RegionBoundary(region=0.0, boundary=0.0)
    near = np.roll(prediction, 3, axis=1)  # columns 22 and 23: all of 22, and of 23 all by column 21
    assert frame_scores(near, truth).boundary == pytest.approx(2 * 1 * (5 / 8) / (1 + 5 / 8))  # 20 and 21 are found


@pytest.mark.parametrize(
    ("shift", "boundary"),
    [
        ((8, 0), 1),  # each pixel has its counterpart 8 below
        ((9, 0), 1 / 2),  # that of the lower row is 8 below the other's upper one
        ((0, 9), 1 / 2),
        ((10, 0), 0),
        ((5, 6), 1),  # 25 + 36 <= 64
        ((6, 6), 3 / 4),  # 36 + 36 > 64, but three of four pixels have another near enough
        ((6, 7), 1 / 4),
        ((7, 7), 0),  # a square of 17 x 17 pixels would reach it
    ],
)
def test_a_contour_is_matched_within_a_disk_of_8_pixels_at_480_by_854(shift: tuple[int, int], boundary: float) -> None:
    """A single pixel has a contour of 2 x 2 pixels."""
    truth = np.zeros(DAVIS, np.uint8)
    truth[200, 300] = 1
    assert agrees(np.roll(truth, shift, (0, 1)), truth) == (0, boundary)


@pytest.mark.parametrize(
    ("prediction", "truth", "region", "boundary"),
    [
        ("empty", "empty", 1, 1),
        ("empty", "pixel inside", 0, 0),
        ("pixel inside", "empty", 0, 0),
        ("full", "full", 1, 1),  # the border of the frame is no contour
        ("full", "empty", 0, 1),
        ("empty", "full", 0, 1),
        ("full", "lower half", 0.5, 0),
    ],
)
def test_masks_without_a_contour_score_as_in_davis(prediction: str, truth: str, region: float, boundary: float) -> None:
    masks = peculiar(*DAVIS)
    assert agrees(masks[prediction], masks[truth]) == (region, boundary)


@pytest.mark.parametrize("size", [size for size in SIZES if size != DAVIS], ids=str)
def test_all_pairs_of_peculiar_masks_score_as_the_reference_says(size: tuple[int, int]) -> None:
    for prediction, truth in itertools.product(peculiar(*size).values(), repeat=2):
        agrees(prediction, truth)


def test_peculiar_masks_of_whole_frames_score_as_the_reference_says() -> None:
    masks = list(peculiar(*DAVIS).values())
    for prediction, truth in zip(masks, masks[1:] + masks[:1], strict=True):
        agrees(prediction, truth)


@given(st.integers(0, 2**32 - 1), st.integers(1, 160), st.integers(1, 220))
@settings(max_examples=250, deadline=None)
def test_perturbed_objects_score_as_the_reference_says(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    truth = blobs(rng, height, width)
    agrees(perturbed(rng, truth), truth)


@pytest.mark.parametrize(("shift", "boundary"), [((10, 14), 1), ((60, 0), 0.13)])  # the radius is 18
def test_a_large_frame_scores_as_the_reference_says(shift: tuple[int, int], boundary: float) -> None:
    truth = cv2.ellipse(np.zeros((1080, 1920), np.uint8), (700, 500), (300, 200), 30, 0, 360, 1, -1)
    assert agrees(np.roll(truth, shift, (0, 1)), truth)[1] == pytest.approx(boundary, abs=0.01)


def test_perturbed_objects_of_whole_frames_score_as_the_reference_says() -> None:
    rng = np.random.default_rng(17)
    truths = [blobs(rng, *DAVIS) for _ in range(60)]
    scores = np.array([agrees(perturbed(rng, truth), truth) for truth in truths])
    spread = np.histogram(scores, bins=4, range=(0, 1))[0]
    assert (spread > 2).all(), f"the masks show bad, middling and good predictions: {spread}"


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
        lambda size: st.tuples(*[arrays(np.uint8, size, elements=st.integers(0, 1))] * 2)
    )
)
@settings(max_examples=150, deadline=None)
def test_small_masks_score_as_the_definition_and_the_reference_say(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert agrees(*pair) == pytest.approx(by_definition(*pair), abs=EXACT)


def real_masks(root: Path) -> Iterator[np.ndarray]:
    """The masks of the real clips, in the layouts of A2D and J-HMDB."""
    for video in a2d.read(root / "a2d", "all", {}).videos:
        for frame in video.labelled:
            yield from a2d.read_instances(Path(frame.path), video.height, video.width).masks
    for video in jhmdb.read(root / "jhmdb", "all", {}).videos:
        for frame in video.labelled:
            yield from jhmdb.read_instances(Path(frame.path), frame.number, video.height, video.width).masks


def test_real_masks_score_as_the_reference_says(shared: Path) -> None:
    rng = np.random.default_rng(18)
    count, before = 0, np.zeros((1, 1), np.uint8)
    for truth in real_masks(shared / "real"):
        agrees(perturbed(rng, truth), truth)
        assert agrees(truth, truth) == (1, 1)
        if before.shape == truth.shape:
            agrees(before, truth)
        count, before = count + 1, truth
    assert count > 150


def test_the_means_of_videos_are_those_of_the_reference_with_or_without_their_outer_frames(tmp_path: Path) -> None:
    """Two videos of six frames with two objects each, as the PNG files that vos-benchmark reads."""
    rng = np.random.default_rng(19)
    frames: dict[tuple[str, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for video, number in itertools.product(("dogs", "riders"), range(6)):
        pair = []
        first, second = blobs(rng, 90, 120), blobs(rng, 90, 120)
        for kind in ("predicted", "true"):
            if kind == "true":
                first, second = perturbed(rng, first), perturbed(rng, second)
            indices = np.where(first, 1, second * 2).astype(np.uint8)
            if number == 0:
                indices[:3, :3], indices[:3, 3:6] = 1, 2  # the reference counts an object once it has seen it
            if number == 4 and kind == "true":
                indices[:] = 0  # nothing is shown
            (tmp_path / kind / video).mkdir(parents=True, exist_ok=True)
            Image.fromarray(indices).save(tmp_path / kind / video / f"{number:05d}.png")
            pair.append(indices)
        for thing in (1, 2):
            predicted, true = ((indices == thing).astype(np.uint8) for indices in pair)
            frames.setdefault((video, thing), []).append((predicted, true))
    for skipped in (False, True):
        evaluate = reference("benchmark").VideoEvaluator(
            str(tmp_path / "true"), str(tmp_path / "predicted"), skip_first_and_last=skipped
        )
        expected = {}
        for video in ("dogs", "riders"):
            _, regions, boundaries = evaluate(video)
            expected |= {(video, thing): (regions[thing] / 100, boundaries[thing] / 100) for thing in regions}
        found = {
            key: expression_scores(iter(pairs[1:-1] if skipped else pairs)) for key, pairs in sorted(frames.items())
        }
        assert {key: (score.region, score.boundary) for key, score in found.items()} == {
            key: pytest.approx(value, abs=EXACT) for key, value in expected.items()
        }
        region, boundary = np.mean(list(expected.values()), axis=0)
        overall = mean_of_expressions(found.values())
        assert (overall.region, overall.boundary) == pytest.approx((region, boundary), abs=EXACT)
        assert overall.mean == pytest.approx((region + boundary) / 2, abs=EXACT)


def test_a_frame_in_which_both_are_empty_counts_wherever_it_stands() -> None:
    empty = np.zeros((20, 30), np.uint8)
    shown, missed = peculiar(20, 30)["lower half"], empty
    pairs = [(empty, empty), (missed, shown), (empty, empty)]
    assert expression_scores(pairs) == RegionBoundary(2 / 3, 2 / 3)
    evaluator = reference("evaluator").Evaluator()
    for pair in pairs:
        evaluator.feed_frame(*pair)
    regions, _ = evaluator.conclude()
    assert regions[1] == pytest.approx(50), "the reference leaves out the frames before the object is seen"


def test_run_lengths_score_as_their_masks() -> None:
    rng = np.random.default_rng(20)
    truth = blobs(rng, 60, 80)
    prediction = perturbed(rng, truth)
    expected = frame_scores(prediction, truth)
    assert 0 < expected.region < 1
    for pair in itertools.product((prediction, encode_rle(prediction)), (truth, encode_rle(truth))):
        assert frame_scores(*pair) == expected


def test_any_number_but_0_is_the_object_and_arrays_may_be_views() -> None:
    rng = np.random.default_rng(21)
    truth, prediction = blobs(rng, 60, 80), blobs(rng, 60, 80)
    expected = frame_scores(prediction, truth)
    assert frame_scores(prediction * 255, truth * 2) == expected
    assert frame_scores(prediction * rng.integers(1, 256, (60, 80), np.uint8), truth) == expected
    assert frame_scores(np.asfortranarray(prediction), truth[::-1].copy()[::-1]) == expected
    wide = np.repeat(prediction, 2, axis=1)
    wide.setflags(write=False)
    assert frame_scores(wide[:, ::2], truth) == expected


def test_frames_are_taken_one_by_one() -> None:
    """A generator may hand out one pair of arrays again and again, so a million frames need no more memory than one."""
    truth, prediction = np.zeros((2, 20, 30), np.uint8)

    def frames() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number in range(1, 6):
            truth[:] = 0
            truth[5:10, 5:10] = 1
            prediction[:] = truth
            prediction[5 : 5 + number] = 0
            yield prediction, truth

    assert expression_scores(frames()).region == pytest.approx(np.mean([0.8, 0.6, 0.4, 0.2, 0]))


def test_means_count_each_expression_the_same_and_j_and_f_apart() -> None:
    found = mean_of_expressions([RegionBoundary(0.2, 0.4), RegionBoundary(0.6, 0.9), RegionBoundary(0.7, 0.2)])
    assert (found.region, found.boundary, found.mean) == pytest.approx((0.5, 0.5, 0.5))


def test_ref_davis17_is_the_mean_of_its_four_annotators() -> None:
    scores = [RegionBoundary(region, region / 2) for region in (0.2, 0.4, 0.6, 0.4)]
    found = mean_of_annotators(scores)
    assert (found.region, found.boundary, found.mean) == pytest.approx((0.4, 0.2, 0.3))
    with pytest.raises(UnequalCounts, match="scores of 3 annotators, expected 4"):
        mean_of_annotators(scores[:3])


def test_nothing_to_average_is_refused() -> None:
    with pytest.raises(NoSamples, match="No frame to score"):
        expression_scores([])
    with pytest.raises(NoSamples, match="No expression to score"):
        mean_of_expressions([])


def test_masks_of_different_frames_are_refused() -> None:
    with pytest.raises(FrameSizeMismatch, match=r"\(20, 30\).*\(30, 20\)"):
        frame_scores(np.zeros((20, 30), np.uint8), encode_rle(np.zeros((30, 20), np.uint8)))
