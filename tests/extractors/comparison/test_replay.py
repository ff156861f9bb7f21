"""A recipe replayed gives what a run stores; its steps, worked by hand; candidates differ in one step."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from data.letterbox import Letterbox
from extractors.comparison.replay import (
    SHIFTS,
    STAGES,
    AlreadyFolded,
    FramesMissing,
    RawClip,
    Recipe,
    Replayer,
    UnknownStep,
    candidates,
    changes,
    needed,
    rounded,
    scaled_flow,
    scaled_pixels,
    square,
)
from extractors.shards.float16 import FeatureOutOfRange, to_float16, to_float32
from extractors.video.decoder import clip_indices
from extractors.video.flow import flow_fields
from extractors.visual import extract
from models.backbones.folded_batch_norm import fold_batch_norm
from models.backbones.i3d import I3D
from models.backbones.initialisation import seed_i3d
from models.backbones.resnet import ResNet, seed_resnet

SIZE, LENGTH, COUNT = 32, 8, 30
BASE = Recipe(0, "letterbox", "rgb", "[-1, 1]", 20.0, 1e-5, "mixed_4e", "float32", "float16")


def network(modality: str) -> I3D:
    i3d = I3D(modality, 1e-5, 1 / 16)
    seed_i3d(i3d, 0)
    for module in i3d.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_var *= 0.01
            module.weight.data *= 0.1
    return i3d.eval()


@pytest.fixture(scope="module")
def i3d() -> I3D:
    return network("rgb")


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """A picture of squares that moves by a pixel a frame."""
    squares = np.random.default_rng(0).integers(0, 256, (6, 14, 3)).astype(np.uint8).repeat(6, 0).repeat(6, 1)
    return np.stack([squares[:, COUNT - index :][:, :50] for index in range(COUNT)])


def raw(frames: np.ndarray, labelled: int) -> RawClip:
    return RawClip(f"v/{labelled + 1:05d}", frames, 0, COUNT, labelled, LENGTH)


def numbered(first: int, last: int, count: int, labelled: int, length: int) -> RawClip:
    """Frames of one pixel that is their index."""
    frames = np.broadcast_to(np.arange(first, last, dtype=np.uint8)[:, None, None, None], (last - first, 1, 1, 3))
    return RawClip("v/00001", frames, first, count, labelled, length)


def letterboxed(frames: np.ndarray, labelled: int) -> np.ndarray:
    box = Letterbox(*frames.shape[1:3], SIZE)
    return np.stack([box.image(frames[index]) for index in clip_indices(labelled, LENGTH, COUNT)])


@pytest.mark.parametrize("batch", [1, 3])
def test_the_recipe_of_a_run_gives_its_features_bit_for_bit(batch: int, frames: np.ndarray, i3d: I3D) -> None:
    labelled = [2, 15, 28]
    clips = np.stack([letterboxed(frames, index) for index in labelled])
    stored = extract(fold_batch_norm(i3d), lambda rows: clips[list(rows)], [[0], [1], [2]], "mixed_4e", batch)
    replayer = Replayer(i3d, SIZE, batch)
    for row, features in stored:
        expected = to_float32(*to_float16(features, "a clip"))
        assert np.abs(expected).max() > 0.1
        np.testing.assert_array_equal(replayer.features(raw(frames, labelled[row]), BASE), expected)


def test_flow_is_replayed_bit_for_bit_too(frames: np.ndarray) -> None:
    i3d = network("flow")
    box = Letterbox(*frames.shape[1:3], SIZE)
    fields = np.stack(
        [
            flow_fields(letterboxed(frames, 15), box.image(frames[19]), "dis", 20.0),
            flow_fields(letterboxed(frames, 28), None, "dis", 20.0),
        ]
    ).astype(np.float16)
    ((_, inner), (_, last)) = extract(fold_batch_norm(i3d), lambda rows: fields[list(rows)], [[0], [1]], "mixed_4e", 2)
    replayer = Replayer(i3d, SIZE, 2)
    for labelled, features in ((15, inner), (28, last)):
        expected = to_float32(*to_float16(features, "a clip"))
        np.testing.assert_array_equal(replayer.features(raw(frames, labelled), BASE), expected)


def test_a_resnet_is_replayed_too(frames: np.ndarray) -> None:
    resnet = ResNet(18, 2)
    seed_resnet(resnet, 0)
    clip = letterboxed(frames, 15)[None]
    ((_, features),) = extract(fold_batch_norm(resnet), lambda rows: clip, [[0]], resnet.tap, 1)
    recipe = replace(BASE, tap=resnet.tap, rounding="float32")
    np.testing.assert_array_equal(Replayer(resnet, SIZE, 1).features(raw(frames, 15), recipe), features)


def test_another_eps_is_that_of_a_network_made_with_it(frames: np.ndarray, i3d: I3D) -> None:
    before = copy.deepcopy(i3d.state_dict())
    other = I3D("rgb", 1e-2, 1 / 16).eval()
    other.load_state_dict(before)
    replayer, clip = Replayer(i3d, SIZE, 1), raw(frames, 15)
    own = replayer.features(clip, BASE)
    found = replayer.features(clip, replace(BASE, eps=1e-2, rounding="float32"))
    with torch.no_grad():
        images = torch.from_numpy(letterboxed(frames, 15)).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
        expected = other.trunk(images, "mixed_4e")[0].numpy()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(found - own).max() > 0.1 * np.abs(own).max()
    np.testing.assert_array_equal(replayer.features(clip, BASE), own)
    assert {module.eps for module in i3d.modules() if isinstance(module, nn.BatchNorm3d)} == {1e-5}
    assert all(torch.equal(value, before[name]) for name, value in i3d.state_dict().items())


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16")
def test_bfloat16_arithmetic_is_near(frames: np.ndarray, i3d: I3D) -> None:
    replayer, clip = Replayer(i3d, SIZE, 1), raw(frames, 15)
    exact = replayer.features(clip, replace(BASE, rounding="float32"))
    found = replayer.features(clip, replace(BASE, arithmetic="bfloat16", rounding="float32"))
    assert 1e-4 < np.abs(found - exact).max() / np.abs(exact).max() < 5e-2


@pytest.mark.parametrize(
    ("labelled", "shift", "window", "following"),
    [
        (4, 0, [2, 3, 4, 5], 6),
        (4, 1, [3, 4, 5, 6], 7),
        (4, -3, [0, 0, 1, 2], 3),
        (4, 2, [4, 5, 6, 7], 8),
        (8, 0, [6, 7, 8, 9], None),
        (8, 3, [9, 9, 9, 9], None),
        (8, -1, [5, 6, 7, 8], 9),
    ],
)
def test_windows_of_a_video_of_ten_frames(labelled: int, shift: int, window: list[int], following: int | None) -> None:
    clip = numbered(0, 10, 10, labelled, 4)
    assert clip.window(shift)[:, 0, 0, 0].tolist() == window
    after = clip.following(shift)
    assert (None if after is None else int(after[0, 0, 0])) == following


@given(st.integers(1, 60), st.integers(1, 20), st.data())
@settings(max_examples=100, deadline=None)
def test_the_frames_needed_are_those_of_all_shifts_and_the_next(count: int, length: int, data: st.DataObject) -> None:
    labelled = data.draw(st.integers(0, count - 1))
    indices = needed(labelled, length, count)
    clip = numbered(indices.start, indices.stop, count, labelled, length)
    seen = set()
    for shift in (0, *SHIFTS):
        expected = np.clip(
            np.arange(labelled - length // 2 + shift, labelled - length // 2 + shift + length), 0, count - 1
        )
        window = clip.window(shift)[:, 0, 0, 0].tolist()
        assert window == expected.tolist()
        after = clip.following(shift)
        seen |= {*window} | ({int(after[0, 0, 0])} if after is not None else set())
    assert seen <= set(indices)


def test_frames_that_were_not_decoded_are_named() -> None:
    with pytest.raises(FramesMissing, match="clip v/00001: frame 8 is needed, but frames 3 to 7 were decoded"):
        numbered(2, 7, 10, 4, 4).window(2)


def test_a_wide_frame_is_cropped_or_stretched() -> None:
    frame = np.zeros((2, 6, 3), np.uint8)
    frame[:, 2:4] = 90
    np.testing.assert_array_equal(square(frame, 2, "crop"), np.full((2, 2, 3), 90))
    assert square(frame, 2, "stretch")[0, :, 0].tolist() == [0, 0]  # the pixels at 1 and 4
    tall = frame.transpose(1, 0, 2)
    np.testing.assert_array_equal(square(tall, 2, "crop"), np.full((2, 2, 3), 90))
    assert square(frame, 6, "letterbox")[:2].max() == 0


def test_pixels_in_every_range() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 1, 3)
    found = {of: scaled_pixels(pixels, of).flatten().tolist() for of in ("[-1, 1]", "[0, 1]", "[0, 255]", "imagenet")}
    assert found["[-1, 1]"] == pytest.approx([-1, -0.6, 1])
    assert found["[0, 1]"] == pytest.approx([0, 0.2, 1])
    assert found["[0, 255]"] == [0, 51, 255]
    assert found["imagenet"] == pytest.approx([-0.485 / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225])


def test_flow_in_every_range() -> None:
    fields = torch.tensor([-1.0, 0.5], dtype=torch.float16).reshape(1, 1, 1, 1, 2)
    assert scaled_flow(fields, "[-1, 1]").flatten().tolist() == [-1, 0.5]
    assert scaled_flow(fields, "[0, 1]").flatten().tolist() == [0, 0.75]
    assert scaled_flow(fields, "[0, 255]").flatten().tolist() == [0, 191.25]
    with pytest.raises(UnknownStep, match="flow has no colours"):
        scaled_flow(fields, "imagenet")


def test_roundings_keep_11_and_8_bits() -> None:
    features = np.array([1 + 2**-12, 1 + 2**-9, 1 + 2**-6], np.float32).reshape(1, 1, 1, 3)
    assert rounded(features, "float32", "here").ravel().tolist() == [1 + 2**-12, 1 + 2**-9, 1 + 2**-6]
    assert rounded(features, "float16", "here").ravel().tolist() == [1, 1 + 2**-9, 1 + 2**-6]
    assert rounded(features, "bfloat16", "here").ravel().tolist() == [1, 1, 1 + 2**-6]
    with pytest.raises(FeatureOutOfRange, match=r"here reach 131072"):
        rounded(np.full((1, 1, 1, 1), 2.0**17, np.float32), "float16", "here")


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_candidates_differ_in_one_step_and_come_in_the_order_of_the_steps(modality: str) -> None:
    found = list(candidates(BASE, network(modality)))
    assert len({recipe for _, recipe in found}) == len(found)
    assert all(list(changes(BASE, recipe)) == [stage] for stage, recipe in found)
    stages = list(dict.fromkeys(stage for stage, _ in found))
    expected = [*STAGES.values()]
    if modality == "rgb":
        expected.remove("flow clipping")
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        expected.remove("arithmetic")
    assert stages == expected
    values = {stage: {changes(BASE, recipe)[stage][1] for of, recipe in found if of == stage} for stage in stages}
    assert {-8, -2, -1, 1, 2, 8} <= values["frame index"]
    assert values["geometry"] == {"crop", "stretch"}
    assert 1e-3 in values["batch norm eps"]
    assert len(values["tap"]) == 11


def test_changes_are_told_in_the_order_of_the_steps() -> None:
    other = replace(BASE, rounding="float32", colours="bgr", shift=2)
    assert list(changes(BASE, other).items()) == [
        ("frame index", (0, 2)),
        ("colour order", ("rgb", "bgr")),
        ("rounding", ("float16", "float32")),
    ]
    assert changes(BASE, BASE) == {}
    assert BASE.document()["flow clipping"] == 20.0


@pytest.mark.parametrize(
    ("step", "value"),
    [("geometry", "square"), ("colours", "rbg"), ("scaling", "[0,1]"), ("arithmetic", "int8"), ("rounding", "half")],
)
def test_a_step_that_there_is_none_of_is_an_error(step: str, value: str) -> None:
    with pytest.raises(UnknownStep, match=rf"{step} '.*': expected one of '"):
        replace(BASE, **{step: value})


def test_a_folded_network_is_an_error(i3d: I3D) -> None:
    with pytest.raises(AlreadyFolded, match="without batch norms"):
        Replayer(fold_batch_norm(i3d), SIZE, 1)
