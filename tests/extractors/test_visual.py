"""Visual features of clips, with the real trunk at an eighth of its width."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from extractors.visual import batches_of, extract
from models.backbones.i3d import I3D
from models.backbones.resnet import ResNet

TAP = "mixed_4e"


@pytest.fixture(scope="module")
def i3d() -> I3D:
    """A small trunk whose features are not all zero."""
    torch.manual_seed(0)
    made = I3D("rgb", 1e-5, 0.125)
    for name, weight in made.named_parameters():
        if name.endswith("conv3d.weight"):
            torch.nn.init.kaiming_normal_(weight)
    return made


def clips(count: int) -> np.ndarray:
    """Clips of 8 noisy frames, black at the top as letterboxed ones are."""
    frames = np.random.default_rng(0).integers(0, 256, (count, 8, 32, 32, 3)).astype(np.uint8)
    frames[:, :, :8] = 0
    return frames


def reading(many: np.ndarray) -> Callable[[Sequence[int]], np.ndarray]:
    return lambda positions: many[list(positions)]


def test_features_are_the_trunks_of_pixels_in_minus_one_to_one(i3d: I3D) -> None:
    clip = clips(1)
    ((place, found),) = extract(i3d, reading(clip), [[0]], TAP, 1)
    pixels = torch.from_numpy(clip.astype(np.float32) / 127.5 - 1).permute(0, 4, 1, 2, 3)
    assert pixels[:, :, :, :8].max() == -1
    with torch.no_grad():
        expected = i3d.eval().trunk(pixels, TAP)[0].numpy()
    assert place == 0 and found.dtype == np.float32
    assert found.shape == expected.shape == (66, 2, 2, 2) == i3d.features_shape(8, 32)  # an eighth of 528 channels
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_flow_is_taken_as_it_is() -> None:
    flow = I3D("flow", 1e-5, 0.125)
    fields = np.random.default_rng(0).uniform(-1, 1, (1, 8, 32, 32, 2)).astype(np.float16)
    ((_, found),) = extract(flow, reading(fields), [[0]], TAP, 1)
    with torch.no_grad():
        expected = flow.trunk(torch.from_numpy(fields).float().permute(0, 4, 1, 2, 3), TAP)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_a_resnet_sees_some_of_the_frames() -> None:
    resnet = ResNet(18, frames=2)
    ((_, found),) = extract(resnet, reading(clips(1)), [[0]], resnet.tap, 1)
    assert found.shape == resnet.features_shape(8, 32) == (256, 2, 2, 2)


def test_a_clips_features_do_not_depend_on_the_clips_beside_it(i3d: I3D) -> None:
    many = dict(extract(i3d, reading(clips(3)), [[0, 1], [2]], TAP, 2))
    assert list(many) == [0, 1, 2]
    ((_, alone),) = extract(i3d, reading(clips(3)), [[2]], TAP, 2)
    np.testing.assert_array_equal(alone, many[2])


def test_no_clips_have_no_features(i3d: I3D) -> None:
    assert list(extract(i3d, reading(clips(1)), [], TAP, 2)) == []


def test_a_trunk_in_training_mode_is_put_in_evaluation_mode(i3d: I3D) -> None:
    ((_, expected),) = extract(i3d, reading(clips(1)), [[0]], TAP, 1)
    i3d.train()
    ((_, found),) = extract(i3d, reading(clips(1)), [[0]], TAP, 1)
    np.testing.assert_array_equal(found, expected)


def test_in_bfloat16_features_stay_close(i3d: I3D) -> None:
    ((_, exact),) = extract(i3d.float(), reading(clips(1)), [[0]], TAP, 1)
    ((_, rough),) = extract(i3d.bfloat16(), reading(clips(1)), [[0]], TAP, 1)
    i3d.float()
    cosine = (exact * rough).sum() / np.sqrt((exact**2).sum() * (rough**2).sum())
    assert rough.dtype == np.float32 and 0.999 < cosine < 1


def test_the_last_batch_of_a_video_may_be_smaller() -> None:
    assert batches_of([4, 5, 6, 7, 8], 2) == [[4, 5], [6, 7], [8]]
    assert batches_of([], 2) == []
