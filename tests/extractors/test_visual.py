"""Visual features of clips, with the real trunk at an eighth of its width."""

import numpy as np
import pytest
import torch

from extractors.visual import FeatureOutOfRange, extract
from models.i3d import I3D

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


def clips(count: int) -> list[np.ndarray]:
    """Clips of 8 noisy frames, black at the top as letterboxed ones are."""
    frames = np.random.default_rng(0).integers(0, 256, (count, 8, 32, 32, 3)).astype(np.uint8)
    frames[:, :, :8] = 0
    return list(frames)


def test_features_are_the_trunks_of_pixels_in_minus_one_to_one(i3d: I3D) -> None:
    (clip,) = clips(1)
    (found,) = extract(i3d, [clip], TAP, 1)
    pixels = torch.from_numpy(clip.astype(np.float32) / 127.5 - 1).permute(3, 0, 1, 2)[None]
    assert pixels[:, :, :, :8].max() == -1
    with torch.no_grad():
        expected = i3d.eval().trunk(pixels, TAP)[0].numpy()
    assert found.dtype == np.float16
    assert found.shape == expected.shape == (66, 2, 2, 2)  # an eighth of 528 channels
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)  # float16 has 11 significant bits


def test_a_clips_features_do_not_depend_on_the_clips_beside_it(i3d: I3D) -> None:
    many = list(extract(i3d, iter(clips(3)), TAP, 2))
    assert len(many) == 3
    (alone,) = extract(i3d, clips(3)[2:], TAP, 2)
    np.testing.assert_array_equal(alone, many[2])


def test_no_clips_have_no_features(i3d: I3D) -> None:
    assert list(extract(i3d, [], TAP, 2)) == []


def test_a_trunk_in_training_mode_is_put_in_evaluation_mode(i3d: I3D) -> None:
    (expected,) = extract(i3d, clips(1), TAP, 1)
    i3d.train()
    (found,) = extract(i3d, clips(1), TAP, 1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bias", [1e6, float("inf"), float("nan")])
def test_features_that_float16_cannot_hold_are_an_error(bias: float) -> None:
    i3d = I3D("rgb", 1e-5, 0.125)
    with torch.no_grad():
        i3d.get_submodule("mixed_4e.branch_0.batch3d").bias.fill_(bias)
    with pytest.raises(FeatureOutOfRange, match=r"clip 0: features after mixed_4e reach .*65504"):
        list(extract(i3d, clips(1), TAP, 1))
