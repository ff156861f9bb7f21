"""Deliberate changes of the way to features, each made by hand here, are named; what differs otherwise is not."""

import json
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trunks import uneven_i3d

from extractors.comparison.explanation import NotFinite, NothingToCompare, compared, explain, phrase
from extractors.comparison.replay import RawClip, Recipe, Replayer
from extractors.video.flow import flow_fields
from models.backbones.i3d import I3D

SIZE = 64
HEIGHT, WIDTH, COUNT = 60, 90, 30
ROWS, TOP = 43, 10  # 60 * 64 / 90 = 42.7; (64 - 43) // 2
LABELLED = (3, 27)  # the first clip starts before the video, the other ends after it
RGB = Recipe(0, "letterbox", "rgb", "[-1, 1]", 20.0, 1e-5, "mixed_4e", "float32", "float16")

Fit = Callable[[np.ndarray], np.ndarray]


def network(modality: str) -> I3D:
    return uneven_i3d(modality, 1e-5, 1 / 16)


def video(step: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A coloured texture that moves to the right by `step` pixels a frame and slowly down."""
    random = np.random.default_rng(7)
    wide = np.zeros((height + COUNT, width + COUNT * step, 3), np.float32)
    for spacing in (4, 9, 20):
        grid = random.standard_normal((wide.shape[0] // spacing, wide.shape[1] // spacing, 3)).astype(np.float32)
        wide += cv2.resize(grid, wide.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    texture = ((wide - wide.min()) * (255 / (wide.max() - wide.min())) * [0.6, 0.8, 1.0]).astype(np.uint8)
    starts = [(COUNT - index, (COUNT - index) * step) for index in range(COUNT)]
    return np.stack([texture[y : y + height, x : x + width] for y, x in starts])


def raw_clips(frames: np.ndarray) -> list[RawClip]:
    return [RawClip(f"v/{labelled:05d}", frames, 0, COUNT, labelled, 16) for labelled in LABELLED]


def letterboxed(frame: np.ndarray) -> np.ndarray:
    square = np.zeros((SIZE, SIZE, 3), np.uint8)
    square[TOP : TOP + ROWS] = cv2.resize(frame, (SIZE, ROWS))
    return square


def cropped(frame: np.ndarray) -> np.ndarray:
    return cv2.resize(frame, (96, SIZE))[:, 16:80]  # 90 * 64 / 60


def stretched(frame: np.ndarray) -> np.ndarray:
    return cv2.resize(frame, (SIZE, SIZE))


def swapped(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(letterboxed(frame), cv2.COLOR_RGB2BGR)


def around(frames: np.ndarray, labelled: int, start: int, fit: Fit) -> np.ndarray:
    """The 16 frames from `start` after the labelled one on and the one after them, in squares."""
    places = np.clip(np.arange(labelled + start, labelled + start + 17), 0, COUNT - 1)
    return np.stack([fit(frame) for frame in frames[places]])


def pixels_of(
    frames: np.ndarray,
    labelled: int,
    start: int = -8,
    fit: Fit = letterboxed,
    scale: Callable[[np.ndarray], np.ndarray] = lambda pixels: pixels / 127.5 - 1,
) -> np.ndarray:
    return scale(around(frames, labelled, start, fit)[:16].astype(np.float32))


def flow_of(frames: np.ndarray, labelled: int, bound: float | None = 20.0, fit: Fit = letterboxed) -> np.ndarray:
    """Displacements, clipped if at all to the bound."""
    squares = around(frames, labelled, -8, fit)
    after = squares[16] if labelled + 8 < COUNT else None
    displacements = flow_fields(squares[:16], after, "dis", 1024.0) * 1024
    return displacements / 20 if bound is None else np.clip(displacements, -bound, bound) / bound


def trunk_of(i3d: I3D, images: np.ndarray, tap: str = "mixed_4e") -> np.ndarray:
    """The plain network, batch norm and all, on one clip alone."""
    with torch.inference_mode():
        return i3d.trunk(torch.from_numpy(images).float().permute(3, 0, 1, 2)[None], tap)[0].numpy()


def halves(features: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [feature.astype(np.float16) for feature in features]


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return video(3)


@pytest.fixture(scope="module")
def i3d() -> I3D:
    return network("rgb")


@pytest.fixture(scope="module")
def flow_i3d() -> I3D:
    return network("flow")


@pytest.fixture(scope="module")
def unchanged(frames: np.ndarray, i3d: I3D) -> list[np.ndarray]:
    return [trunk_of(i3d, pixels_of(frames, labelled)) for labelled in LABELLED]


@pytest.fixture(scope="module")
def replayer(i3d: I3D) -> Replayer:
    return Replayer(i3d, SIZE, 1)


@pytest.mark.parametrize(
    ("change", "stage", "words"),
    [
        (partial(pixels_of, start=-7), "frame index", "frame index: the clips start 1 frame later in B (shift +1)"),
        (partial(pixels_of, start=-16), "frame index", "frame index: the clips start 8 frames earlier in B (shift -8)"),
        (partial(pixels_of, fit=cropped), "geometry", "geometry: letterbox in A, crop in B"),
        (partial(pixels_of, fit=stretched), "geometry", "geometry: letterbox in A, stretch in B"),
        (partial(pixels_of, fit=swapped), "colour order", "colour order: rgb in A, bgr in B"),
        (partial(pixels_of, scale=lambda pixels: pixels / 255), "scaling", "scaling: [-1, 1] in A, [0, 1] in B"),
        (partial(pixels_of, scale=lambda pixels: pixels), "scaling", "scaling: [-1, 1] in A, [0, 255] in B"),
    ],
)
def test_a_change_of_the_frames_is_named(
    change: Callable[[np.ndarray, int], np.ndarray],
    stage: str,
    words: str,
    frames: np.ndarray,
    i3d: I3D,
    replayer: Replayer,
) -> None:
    b = halves([trunk_of(i3d, change(frames, labelled)) for labelled in LABELLED])
    explanation = explain(RGB, raw_clips(frames), b, replayer)
    assert (explanation.verdict, explanation.stages) == ("explained", (stage,))
    assert explanation.sentence.startswith(words)
    assert explanation.cause is not None and explanation.unchanged is not None
    assert explanation.cause.error < 2e-3 < explanation.unchanged.error
    assert len(explanation.cause.clips) == len(LABELLED)


def test_the_eps_of_the_batch_norms_is_named(frames: np.ndarray, i3d: I3D, replayer: Replayer) -> None:
    other = I3D("rgb", 1e-3, 1 / 16).eval()
    other.load_state_dict(i3d.state_dict())
    b = halves([trunk_of(other, pixels_of(frames, labelled)) for labelled in LABELLED])
    explanation = explain(RGB, raw_clips(frames), b, replayer)
    assert explanation.stages == ("batch norm eps",)
    assert explanation.sentence.startswith("batch norm eps: 1e-05 in A, 0.001 in B")


@pytest.mark.parametrize("tap", ["mixed_4d", "mixed_4f", "conv3d_2c_3x3"])
def test_the_tap_is_named(tap: str, frames: np.ndarray, i3d: I3D, replayer: Replayer) -> None:
    b = halves([trunk_of(i3d, pixels_of(frames, labelled), tap) for labelled in LABELLED])
    explanation = explain(RGB, raw_clips(frames), b, replayer)
    assert explanation.stages == ("tap",)
    assert explanation.sentence.startswith(f"tap: mixed_4e in A, {tap} in B")
    assert explanation.unchanged is None  # features of another shape


def test_among_taps_of_one_shape_the_right_one_is_named(frames: np.ndarray, i3d: I3D, replayer: Replayer) -> None:
    b = halves([trunk_of(i3d, pixels_of(frames, labelled), "mixed_4c") for labelled in LABELLED])
    assert b[0].shape == trunk_of(i3d, pixels_of(frames, 3), "mixed_4b").shape
    base = Recipe(0, "letterbox", "rgb", "[-1, 1]", None, 1e-5, "mixed_4b", "float32", "float16")
    explanation = explain(base, raw_clips(frames), b, replayer)
    assert explanation.stages == ("tap",)
    assert explanation.cause is not None and explanation.cause.recipe.tap == "mixed_4c"


@pytest.mark.parametrize(("a", "b"), [("float16", "float32"), ("float32", "float16"), ("float16", "bfloat16")])
def test_the_rounding_is_named_where_nothing_else_differs(
    a: str, b: str, frames: np.ndarray, unchanged: list[np.ndarray], replayer: Replayer
) -> None:
    stored = [torch.from_numpy(feature).to(getattr(torch, b)).float().numpy() for feature in unchanged]
    base = Recipe(0, "letterbox", "rgb", "[-1, 1]", None, 1e-5, "mixed_4e", "float32", a)
    explanation = explain(base, raw_clips(frames), stored, replayer)
    assert explanation.stages == ("rounding",)
    assert explanation.sentence.startswith(f"rounding: {a} in A, {b} in B")


def test_the_bound_of_flow_is_named(frames: np.ndarray, flow_i3d: I3D) -> None:
    b = halves([trunk_of(flow_i3d, flow_of(frames, labelled, 10.0)) for labelled in LABELLED])
    explanation = explain(RGB, raw_clips(frames), b, Replayer(flow_i3d, SIZE, 1))
    assert explanation.stages == ("flow clipping",)
    assert explanation.sentence.startswith("flow clipping: at 20 pixels in A, at 10 pixels in B")


def test_flow_that_is_not_clipped_is_named(flow_i3d: I3D) -> None:
    size = 96
    frames = video(24, size, size)
    fields = flow_of(frames, LABELLED[0], None, lambda frame: frame)
    assert np.mean(np.abs(fields) > 1) > 0.01  # there is something to clip
    b = halves([trunk_of(flow_i3d, fields)])
    explanation = explain(RGB, raw_clips(frames)[:1], b, Replayer(flow_i3d, size, 1))
    assert explanation.stages == ("flow clipping",)
    assert explanation.sentence.startswith("flow clipping: at 20 pixels in A, none in B")


def test_flow_made_alike_is_identical(frames: np.ndarray, flow_i3d: I3D) -> None:
    b = halves([trunk_of(flow_i3d, flow_of(frames, labelled).astype(np.float16)) for labelled in LABELLED])
    assert explain(RGB, raw_clips(frames), b, Replayer(flow_i3d, SIZE, 1), depth=1).verdict == "identical"


def test_of_two_changes_the_first_is_the_first_of_the_steps(frames: np.ndarray, i3d: I3D, replayer: Replayer) -> None:
    change = partial(pixels_of, start=-7, fit=swapped)
    b = [trunk_of(i3d, change(frames, labelled)) for labelled in LABELLED]
    explanation = explain(RGB, raw_clips(frames), b, replayer)
    assert explanation.stages == ("frame index", "colour order", "rounding")
    assert explanation.document()["stage"] == "frame index"
    assert ", and colour order: rgb in A, bgr in B" in explanation.sentence
    assert explain(RGB, raw_clips(frames), b, replayer, depth=1).verdict == "unexplained"


def test_what_only_some_clips_show_is_found_there(frames: np.ndarray, i3d: I3D, replayer: Replayer) -> None:
    still = np.broadcast_to(frames[:1], frames.shape)
    clips = [RawClip("still/00004", still, 0, COUNT, 3, 16), RawClip("v/00016", frames, 0, COUNT, 15, 16)]
    b = halves([trunk_of(i3d, pixels_of(clip.frames, clip.labelled, start=-9)) for clip in clips])
    explanation = explain(RGB, clips, b, replayer)
    assert explanation.stages == ("frame index",)
    assert explanation.sentence.startswith("frame index: the clips start 1 frame earlier in B (shift -1)")


def test_the_recipes_own_replay_is_identical(frames: np.ndarray, replayer: Replayer) -> None:
    clips = raw_clips(frames)
    explanation = explain(RGB, clips, [replayer.features(clip, RGB) for clip in clips], replayer)
    assert (explanation.verdict, explanation.stages, explanation.findings) == ("identical", (), ())
    assert explanation.unchanged is not None and explanation.unchanged.error == 0


def test_last_bits_do_not_count(frames: np.ndarray, unchanged: list[np.ndarray], replayer: Replayer) -> None:
    explanation = explain(RGB, raw_clips(frames), halves(unchanged), replayer, depth=1)
    assert explanation.verdict == "identical"
    assert explanation.sentence.startswith("A and B are made alike")


@pytest.mark.parametrize(("noise", "depth"), [(1e-3, 2), (1.0, 1)])
def test_noise_is_not_explained(
    noise: float, depth: int, frames: np.ndarray, unchanged: list[np.ndarray], replayer: Replayer
) -> None:
    random = np.random.default_rng(0)
    b = [of + noise * of.std() * random.standard_normal(of.shape).astype(np.float32) for of in unchanged]
    explanation = explain(RGB, raw_clips(frames), b, replayer, depth)
    assert (explanation.verdict, explanation.cause) == ("unexplained", None)
    assert explanation.sentence.startswith("No change of A's recipe that was tried explains B")
    distances = [finding.distance for finding in explanation.findings]
    assert distances == sorted(distances) and len(distances) > 15


def test_features_of_a_shape_that_no_tap_has_are_not_explained(frames: np.ndarray, replayer: Replayer) -> None:
    explanation = explain(RGB, raw_clips(frames), [np.ones((7, 4, 4, 4), np.float32)] * 2, replayer)
    assert explanation.verdict == "unexplained"
    assert explanation.sentence == "No change of A's recipe that was tried gives features of B's shape, 7 x 4 x 4 x 4."
    json.dumps(explanation.document(), allow_nan=False)


def test_the_document_is_json_that_says_what_the_sentence_says(
    frames: np.ndarray, i3d: I3D, replayer: Replayer
) -> None:
    b = halves([trunk_of(i3d, pixels_of(frames, 27, fit=swapped))])
    document = explain(RGB, raw_clips(frames)[1:2], b, replayer).document()
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again == document
    assert document["recipe"]["colour order"] == "rgb"
    (change,) = document["cause"]["changes"]
    assert (change["stage"], change["a"], change["b"]) == ("colour order", "rgb", "bgr")
    assert document["sentence"].startswith(change["text"])
    assert len(document["cause"]["clips"]) == 1
    assert document["cause"] not in document["candidates"]


def test_a_comparison_worked_by_hand() -> None:
    expected = np.array([3.0, 0.0, 0.0, 4.0], np.float32).reshape(1, 1, 2, 2)
    found = np.array([3.0, 0.0, 1.0, 4.0], np.float16).reshape(1, 1, 2, 2)
    comparison = compared(found, expected)
    assert comparison.error == pytest.approx(1 / 4)
    assert comparison.distance == pytest.approx(1 / 5)
    assert comparison.cosine == pytest.approx(25 / (5 * 26**0.5))


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4), st.sampled_from([0.5, 2.0, 1024.0]))
@settings(max_examples=50, deadline=None)
def test_comparisons_know_no_unit(values: list[float], factor: float) -> None:
    a = np.array(values, np.float32).reshape(1, 1, 2, 2)
    b = np.ones_like(a)
    once, scaled = compared(a, b), compared(a * np.float32(factor), b * np.float32(factor))
    assert scaled.error == pytest.approx(once.error) and scaled.distance == pytest.approx(once.distance)
    assert (compared(a, a).error, compared(a, a).distance, compared(a, a).cosine) == (0, 0, 1)
    assert compared(a, np.zeros_like(a)).error == (1 if a.any() else 0)


def test_shifts_are_told_in_frames() -> None:
    assert phrase("frame index", 0, -2) == "frame index: the clips start 2 frames earlier in B (shift -2)"
    assert phrase("frame index", 1, 2) == "frame index: the clips start 1 frame later in B (shift +1)"


def test_clips_and_features_must_be_as_many(frames: np.ndarray, replayer: Replayer) -> None:
    with pytest.raises(NothingToCompare, match="2 clips and features of 1"):
        explain(RGB, raw_clips(frames), [np.zeros((1, 1, 1, 1), np.float32)], replayer)
    with pytest.raises(NothingToCompare, match="0 clips"):
        explain(RGB, [], [], replayer)


def test_features_that_are_no_numbers_are_an_error(frames: np.ndarray, replayer: Replayer) -> None:
    with pytest.raises(NotFinite, match="clip v/00003: B's features"):
        explain(RGB, raw_clips(frames)[:1], [np.full((33, 4, 4, 4), np.nan, np.float32)], replayer)
