import re
from collections import OrderedDict
from itertools import pairwise

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, nn

from models.backbones.i3d import UnknownTap
from models.backbones.initialisation import smooth_clips
from models.backbones.resnet import (
    NotAResNet,
    ResNet,
    UnknownDepth,
    WrongFrameCount,
    frame_choice,
    imagenet_normalised,
    resnet_depth,
    seed_resnet,
)

# depth: trunk's tap, head, channels of both; written down a second time.
CUTS = {
    18: ("layer3.0", "layer3.1", 256),
    34: ("layer3.4", "layer3.5", 256),
    50: ("layer3.4", "layer3.5", 1024),
    101: ("layer3.21", "layer3.22", 1024),
    152: ("layer3.34", "layer3.35", 1024),
}


def torchvisions(depth: int) -> nn.Module:
    """torchvision's own network, its batch norms with statistics that are not those of a new one."""
    torch.manual_seed(depth)
    network = torchvision.models.get_model(f"resnet{depth}", weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network.eval()


def clips(count: int, frames: int, size: int) -> torch.Tensor:
    """Clips of noise in [-1, 1], black at the top as letterboxed ones are."""
    noise = torch.rand(count, 3, frames, size, size, dtype=torch.float64, generator=Generator().manual_seed(1)) * 2 - 1
    noise[:, :, :, :8] = -1
    return noise


@pytest.fixture(scope="module")
def small() -> ResNet:
    made = ResNet(18, 2)
    seed_resnet(made, 0)
    return made


def test_four_of_sixteen_frames_are_the_centres_of_quarters():
    assert frame_choice(16, 4) == [2, 6, 10, 14]
    assert frame_choice(16, 1) == [8]
    assert frame_choice(16, 16) == list(range(16))
    assert frame_choice(5, 2) == [1, 3]  # 1.25 and 3.75


@given(st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None)
def test_chosen_frames_are_different_and_evenly_spaced(length, frames):
    if length < frames:
        with pytest.raises(WrongFrameCount, match=rf"{length} frames?:.*{frames}"):
            frame_choice(length, frames)
        return
    chosen = frame_choice(length, frames)
    assert len(chosen) == frames
    assert chosen[0] >= 0 and chosen[-1] < length
    assert all(length // frames <= later - earlier <= -(-length // frames) for earlier, later in pairwise(chosen))
    assert abs(chosen[0] - (length - 1 - chosen[-1])) <= 1


def test_black_grey_and_white_become_imagenets():
    images = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).reshape(3, 1, 1, 1).expand(3, 3, 1, 1)
    red, green, blue = imagenet_normalised(images).squeeze().T
    assert red.tolist() == pytest.approx([-0.485 / 0.229, 0.015 / 0.229, 0.515 / 0.229])
    assert green.tolist() == pytest.approx([-0.456 / 0.224, 0.044 / 0.224, 0.544 / 0.224])
    assert blue.tolist() == pytest.approx([-0.406 / 0.225, 0.094 / 0.225, 0.594 / 0.225])


@pytest.mark.parametrize("depth", [18, 50])
def test_trunk_and_head_are_torchvisions_layers_up_to_layer3_frame_by_frame(depth):
    theirs = torchvisions(depth)
    ours = ResNet(depth, 4).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ours.double()
    theirs.double()
    clip = clips(2, 16, 64)
    with torch.no_grad():
        features = ours.trunk(clip)
        found = ours.head(features)
    assert features.shape == found.shape == (2, CUTS[depth][2], 4, 4, 4)
    assert features.min() >= 0
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for place, frame in enumerate([2, 6, 10, 14]):
        maps = normalise((clip[:, :, frame] + 1) / 2)
        with torch.no_grad():
            maps = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(maps))))
            expected = theirs.layer3(theirs.layer2(theirs.layer1(maps)))
        assert expected.std() > 0.01
        torch.testing.assert_close(found[:, :, place], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", CUTS)
def test_names_and_shapes_are_torchvisions_and_tell_the_depth(depth):
    with torch.device("meta"):  # shapes without weights
        theirs = torchvision.models.get_model(f"resnet{depth}", weights=None).state_dict()
        ours = ResNet(depth, 4)
    tap, head, channels = CUTS[depth]
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }
    assert (ours.modality, ours.depth, ours.frames) == ("rgb", depth, 4)
    assert (ours.tap, ours.head_name) == (tap, head)
    assert ours.channels[tap] == ours.channels[head] == channels
    assert resnet_depth(theirs) == depth
    features = torch.zeros(1, channels, 4, 2, 3, device="meta")
    assert ours.trunk(torch.zeros(1, 3, 16, 32, 48, device="meta")).shape == features.shape
    assert ours.head(features).shape == features.shape


def test_every_block_can_be_tapped_and_has_its_channels(small: ResNet):
    small.eval()
    clip = clips(1, 2, 32).float()
    for tap, size in (("layer1.0", 8), ("layer2.1", 4), ("layer3.0", 2), ("layer4.1", 1)):
        assert small.trunk(clip, tap).shape == (1, small.channels[tap], 2, size, size)
    assert torch.equal(small.trunk(clip, small.head_name), small.head(small.trunk(clip)))


def test_a_trunk_sees_each_chosen_frame_alone(small: ResNet):
    small.eval()
    clip = clips(1, 8, 32).float()
    before = small.trunk(clip)
    clip[:, :, [0, 1, 3, 4, 5, 7]] = 0.5  # 2 and 6 are seen
    torch.testing.assert_close(small.trunk(clip), before, rtol=0, atol=0)
    clip[:, :, 6] = 0.5
    after = small.trunk(clip)
    torch.testing.assert_close(after[:, :, 0], before[:, :, 0], rtol=1e-5, atol=1e-5)
    assert (after[:, :, 1] - before[:, :, 1]).abs().max() > 0.01


def test_only_the_head_gets_gradients_when_the_trunk_runs_without(small: ResNet):
    small.zero_grad()
    with torch.no_grad():
        features = small.eval().trunk(clips(1, 2, 32).float())
    small.head(features).square().sum().backward()
    names = {name for name, parameter in small.named_parameters() if parameter.grad is not None}
    assert names == {name for name, _ in small.named_parameters() if name.startswith("layer3.1.")}
    assert all(small.get_parameter(name).grad.abs().max() > 0 for name in names)


def test_a_head_in_training_normalises_over_all_frames_of_all_clips():
    resnet = ResNet(18, 2).double().train()
    features = torch.rand(2, 256, 2, 3, 3, dtype=torch.float64, generator=Generator().manual_seed(2))
    resnet.get_submodule("layer3.1.bn1").momentum = 1.0
    resnet.head(features)
    images = torch.cat([features[:, :, frame] for frame in range(2)])
    seen = resnet.get_submodule("layer3.1.conv1")(images)
    found = resnet.get_submodule("layer3.1.bn1").running_mean
    torch.testing.assert_close(found, seen.mean((0, 2, 3)), rtol=1e-9, atol=1e-12)


def test_a_head_leaves_its_features_as_they_are(small: ResNet):
    features = small.eval().trunk(clips(1, 2, 32).float())
    before = features.clone()
    small.head(features)
    assert torch.equal(features, before)


@pytest.mark.parametrize("depth", [18, 50])
def test_seeded_features_and_branches_keep_their_scale(depth):
    resnet = ResNet(depth, 4)
    seed_resnet(resnet, 0)
    branches = {}

    def keep(norm: nn.Module, _: object, output: torch.Tensor) -> None:
        branches[norm] = float(output.square().mean().sqrt())

    for module in resnet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(keep)
    with torch.no_grad():
        features = resnet.eval().trunk(smooth_clips(3, Generator().manual_seed(99)).float())
    assert len(branches) > 10
    assert all(0.3 < scale < 3 for scale in branches.values())  # on other clips than they were calibrated on
    assert 0.3 < features.square().mean().sqrt() < 10
    assert features.half().isfinite().all()


def test_weights_are_a_pure_function_of_the_seed_whatever_the_frames(small: ResNet):
    same, other = ResNet(18, 16).eval(), ResNet(18, 2)
    random = torch.get_rng_state()
    seed_resnet(same, 0)
    seed_resnet(other, 1)
    assert torch.equal(torch.get_rng_state(), random)
    assert not same.training and other.training
    assert all(tensor.dtype == torch.float32 for tensor in same.parameters())
    assert same.get_submodule("bn1").momentum == 0.1
    assert same.get_buffer("bn1.num_batches_tracked") == 0
    expected = small.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in same.state_dict().items())
    for name in ("layer3.1.conv1.weight", "fc.weight", "layer4.1.bn2.running_var"):
        assert not torch.equal(other.state_dict()[name], expected[name])


def test_thread_counts_do_not_show_in_seeded_weights(small: ResNet):
    threads = torch.get_num_threads()
    again = ResNet(18, 2)
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        seed_resnet(again, 0)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(tensor, small.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_what_does_not_exist_is_refused_with_what_does(small: ResNet):
    with pytest.raises(UnknownDepth, match=r"26: expected one of 18, 34, 50, 101, 152"):
        ResNet(26, 4)
    with pytest.raises(WrongFrameCount, match="0 frames"):
        ResNet(18, 0)
    with pytest.raises(UnknownTap, match=r"'mixed_4e'.*layer3\.0"):
        small.trunk(clips(1, 2, 32).float(), "mixed_4e")
    with pytest.raises(WrongFrameCount, match="clip of 1 frame: expected at least the 2"):
        small.trunk(clips(1, 1, 32).float())


def test_a_state_dict_of_another_network_is_named():
    with pytest.raises(NotAResNet, match=re.escape("(0, 0, 0, 0) blocks in layer1 to layer4 and names such as ['conv")):
        resnet_depth({"conv3d_1a_7x7.conv3d.weight": 0})
    with torch.device("meta"):
        state = OrderedDict(torchvision.models.resnet34(weights=None).state_dict())
    with pytest.raises(NotAResNet, match=re.escape("(3, 4, 6, 2) blocks")):
        resnet_depth([name for name in state if not name.startswith("layer4.2.")])
    with pytest.raises(NotAResNet, match=re.escape("(2, 2, 2, 2) bottlenecks")):
        resnet_depth([f"layer{layer}.{block}.conv1.weight" for layer in range(1, 5) for block in range(2)]
                     + ["layer1.0.conv3.weight"])  # fmt: skip
    with pytest.raises(NotAResNet, match=re.escape("(0, 0, 0, 0)")):
        resnet_depth([f"module.{name}" for name in state])
