import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from models.backbones.i3d import (
    I3D,
    Unit,
    UnknownModality,
    UnknownTap,
    ZeroPaddedMaxPool,
    same_padding,
    scaled,
    to_unit_range,
)

NARROW = 1 / 16

# In; b0, b1a, b1b, b2a, b2b, b3: the paper's table, written down a second time.
BLOCKS = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}


def port_shapes(image: int) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor in the port's file, step counts left out."""
    units = {
        "conv3d_1a_7x7": (64, image, 7, 7, 7),
        "conv3d_2b_1x1": (64, 64, 1, 1, 1),
        "conv3d_2c_3x3": (192, 64, 3, 3, 3),
    }
    for name, (inputs, b0, b1a, b1b, b2a, b2b, b3) in BLOCKS.items():
        units |= {
            f"mixed_{name}.branch_0": (b0, inputs, 1, 1, 1),
            f"mixed_{name}.branch_1.0": (b1a, inputs, 1, 1, 1),
            f"mixed_{name}.branch_1.1": (b1b, b1a, 3, 3, 3),
            f"mixed_{name}.branch_2.0": (b2a, inputs, 1, 1, 1),
            f"mixed_{name}.branch_2.1": (b2b, b2a, 3, 3, 3),
            f"mixed_{name}.branch_3.1": (b3, inputs, 1, 1, 1),
        }
    shapes: dict[str, tuple[int, ...]] = {f"{name}.conv3d.weight": shape for name, shape in units.items()}
    for name, shape in units.items():
        shapes |= {f"{name}.batch3d.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes | {"conv3d_0c_1x1.conv3d.weight": (400, 1024, 1, 1, 1), "conv3d_0c_1x1.conv3d.bias": (400,)}


def test_same_padding_puts_the_smaller_half_low():
    assert same_padding((7, 7, 7), (2, 2, 2)) == (2, 3, 2, 3, 2, 3)
    assert same_padding((1, 3, 3), (1, 2, 2)) == (0, 1, 0, 1, 0, 0)
    assert same_padding((3, 3, 3), (1, 1, 1)) == (1, 1, 1, 1, 1, 1)
    assert same_padding((2, 2, 2), (2, 2, 2)) == (0, 0, 0, 0, 0, 0)


def test_a_max_pool_sees_zeros_outside_the_map():
    pool = ZeroPaddedMaxPool((3, 3, 3), (1, 1, 1))
    pooled = pool(torch.full((1, 1, 3, 3, 3), -2.0))
    assert pooled[0, 0, 1, 1, 1] == -2
    pooled[0, 0, 1, 1, 1] = 0
    assert not pooled.any()


def test_a_max_pool_keeps_windows_that_stick_out_at_the_high_end():
    pool = ZeroPaddedMaxPool((2, 2, 2), (2, 2, 2))
    maps = torch.arange(27.0).reshape(1, 1, 3, 3, 3)
    assert pool(maps).flatten().tolist() == [13, 14, 16, 17, 22, 23, 25, 26]


@pytest.mark.parametrize("kernel, stride", [((7, 7, 7), (2, 2, 2)), ((3, 3, 3), (1, 1, 1)), ((1, 3, 3), (1, 2, 2))])
def test_a_unit_is_a_padded_convolution_batch_norm_and_relu(kernel, stride):
    generator = torch.Generator().manual_seed(3)
    unit = Unit(2, 3, kernel, stride, eps=0.25).double().eval()
    for tensor in unit.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.1)
    maps = torch.randn(2, 2, 6, 8, 10, generator=generator, dtype=torch.float64)

    totals = [max(size - step, 0) for size, step in zip(kernel, stride, strict=True)]
    margins = [(0, 0), (0, 0), *((total // 2, total - total // 2) for total in totals)]
    windows = sliding_window_view(np.pad(maps.numpy(), margins), kernel, axis=(2, 3, 4))
    windows = windows[:, :, :: stride[0], :: stride[1], :: stride[2]]
    found = np.einsum("bcthwijk,dcijk->bdthw", windows, unit.conv3d.weight.detach().numpy())
    norm = unit.batch3d
    mean, variance, weight, bias = (
        tensor.detach().numpy().reshape(1, 3, 1, 1, 1)
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    expected = np.maximum((found - mean) / np.sqrt(variance + 0.25) * weight + bias, 0)
    np.testing.assert_allclose(unit(maps).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("modality, image", [("rgb", 3), ("flow", 2)])
def test_names_and_shapes_are_the_ports(modality, image):
    state = I3D(modality, eps=1e-3).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert shapes == port_shapes(image)


def test_width_scales_every_layer():
    i3d = I3D("rgb", eps=1e-3, width=0.25)
    assert i3d.channels["mixed_4e"] == 132
    assert i3d.channels["mixed_4f"] == 208
    assert i3d.state_dict()["mixed_4c.branch_2.1.conv3d.weight"].shape == (16, 6, 3, 3, 3)
    assert scaled(16, 0.001) == 1


def test_the_trunk_ends_at_a_quarter_of_the_frames_and_a_sixteenth_of_the_pixels():
    i3d = I3D("rgb", eps=1e-3, width=NARROW).eval()
    clip = torch.zeros(1, 3, 16, 64, 32)
    features = i3d.trunk(clip)
    assert features.shape == (1, i3d.channels["mixed_4e"], 4, 4, 2)
    assert i3d.head(features).shape == (1, i3d.channels["mixed_4f"], 4, 4, 2)
    assert torch.equal(i3d.trunk(clip, tap="mixed_4f"), i3d.head(features))
    assert i3d.trunk(clip, tap="mixed_3c").shape == (1, i3d.channels["mixed_3c"], 8, 8, 4)


def test_an_unknown_tap_is_refused_with_the_list_of_layers():
    with pytest.raises(UnknownTap, match=r"'mixed_9z'.*mixed_4e"):
        I3D("rgb", eps=1e-3, width=NARROW).trunk(torch.zeros(1, 3, 16, 32, 32), tap="mixed_9z")


def test_an_unknown_modality_is_refused():
    with pytest.raises(UnknownModality, match="depth"):
        I3D("depth", eps=1e-3)


def test_black_becomes_minus_one_and_white_one():
    frames = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 1, 1, 1, 3)
    assert to_unit_range(frames).flatten().tolist() == pytest.approx([-1, 1, -0.6])


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_units_keep_the_ceiling_of_size_over_stride_on_even_maps(frames, rows, columns):
    unit = Unit(1, 1, (7, 7, 7), (2, 2, 2), eps=1e-3).eval()
    assert unit(torch.zeros(1, 1, 2 * frames, 2 * rows, 2 * columns)).shape[2:] == (frames, rows, columns)
