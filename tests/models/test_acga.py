import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator
from torch.nn import functional

from models import acga
from models.acga import ACGA, Sizes, UnknownInitialisation, WordEncoder
from models.attention import cells_with_coordinates
from models.backbones.backbone import BackboneSizes
from models.backbones.i3d import I3D
from models.backbones.initialisation import seed_i3d
from models.backbones.resnet import ResNet
from models.layers import Mode

VIDEO = BackboneSizes("i3d", "rgb", eps=1e-3, width=1 / 16, frames=0)
SIZES = Sizes(VIDEO, word_dim=6, channels=(5, 4), widths=(6, 5, 4), attention=True)


@functools.cache
def trunk_weights() -> dict[str, torch.Tensor]:
    i3d = I3D("rgb", eps=1e-3, width=1 / 16)
    seed_i3d(i3d, 0)
    return i3d.state_dict()


def built(
    seed: int = 0, attention: bool = True, initialisation: str = "scaled", mode: Mode = "fast", fused: bool = True
) -> ACGA:
    i3d = I3D("rgb", SIZES.video.eps, SIZES.video.width)
    i3d.load_state_dict(trunk_weights())
    sizes = (SIZES.word_dim, SIZES.channels, SIZES.widths, attention)
    return acga.build(i3d, *sizes, initialisation, Generator().manual_seed(seed), mode, fused)


def inputs(clips: int, sentences: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = Generator().manual_seed(3)
    channels = I3D("rgb", SIZES.video.eps, SIZES.video.width).channels["mixed_4e"]
    features = torch.randn(clips, channels, 4, 3, 2, generator=generator).relu()
    return features, torch.randn(sentences, 5, SIZES.word_dim, generator=generator)


def test_the_papers_network_has_36_4_million_parameters():
    video = BackboneSizes("i3d", "rgb", eps=1e-5, width=1.0, frames=0)
    sizes = Sizes(video, word_dim=300, channels=(256, 128), widths=(256, 128, 64), attention=True)
    with torch.device("meta"):
        model = acga.assemble(sizes)
    assert sum(parameter.numel() for parameter in model.parameters()) == 36_361_655
    assert model.sizes == sizes


def test_words_are_convolved_with_their_neighbours():
    encoder = WordEncoder(1)
    with torch.no_grad():
        encoder.convolution.weight.copy_(torch.tensor([[[1.0, 10.0, 100.0]]]))
        encoder.convolution.bias.copy_(torch.tensor([0.5]))
    words = torch.tensor([0.01, 0.02, 0.0]).reshape(1, 3, 1)
    expected = [math.tanh(0.1 + 2 + 0.5), math.tanh(0.01 + 0.2 + 0.5), math.tanh(0.02 + 0.5)]
    assert encoder(words).flatten().tolist() == pytest.approx(expected)


def test_the_network_is_its_parts_in_order():
    model = built().eval()
    features, words = inputs(2, 2)
    visual = model.video.mixed_4f(features).mean(2)
    visual = visual / visual.square().sum(1, keepdim=True).sqrt()
    vision, language = model.attention(visual, model.text(words), torch.arange(2))
    expected, found = model.decoder(vision, language), model(features, words)
    for name in ("small", "medium", "large"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("mode", ["fast", "plain"])
def test_sentences_may_share_a_clip(mode):
    model = built(mode=mode).eval()
    features, words = inputs(2, 3)
    clip = torch.tensor([1, 0, 1])
    shared, repeated = model(features, words, clip), model(features[clip], words)
    torch.testing.assert_close(shared.large, repeated.large)


def test_a_clip_of_several_sentences_is_encoded_once():
    model = built().eval()
    features, words = inputs(2, 5)
    seen = []
    for unit in (model.video.mixed_4f.branch_0, model.video.mixed_4f.branch_2[1]):
        unit.batch3d.register_forward_hook(lambda _module, arguments, _output: seen.append(len(arguments[0])))
    model(features, words, torch.tensor([0, 0, 1, 1, 1]))
    assert seen == [2, 2], "two clips, five sentences"


def test_the_mode_is_that_of_all_parts():
    for attention in (True, False):
        model = built(attention=attention)
        assert model.mode == "fast"
        model.mode = "plain"
        assert model.mode == model.decoder.mode == "plain"
        if attention:
            assert model.attention.mode == "plain"
    assert built(mode="plain").mode == acga.assemble(SIZES, "plain").mode == "plain"
    assert acga.assemble(SIZES).mode == "fast"


def test_both_modes_have_the_same_weights():
    fast, plain = built(mode="fast").state_dict(), built(mode="plain").state_dict()
    assert list(fast) == list(plain)
    assert all(torch.equal(fast[name], plain[name]) for name in fast)


@settings(deadline=None, max_examples=6)
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    length=st.integers(1, 5),
    sentences=st.integers(1, 4),
    attention=st.booleans(),
    training=st.booleans(),
    fused=st.booleans(),
)
def test_both_modes_give_the_same_outputs_and_gradients(size, length, sentences, attention, training, fused):
    generator = Generator().manual_seed(sum(size) + length)
    channels = built().video.channels["mixed_4e"]
    features = torch.randn(2, channels, 4, *size, generator=generator, dtype=torch.float64).relu()
    words = torch.randn(sentences, length, SIZES.word_dim, generator=generator, dtype=torch.float64)
    clip = torch.arange(sentences) % 2
    results = []
    for mode in ("plain", "fast"):
        model = built(attention=attention, mode=mode, fused=fused).double().train(training)
        responses = model(features, words, clip)
        loss = responses.small.square().mean() + responses.medium.square().mean() + responses.large.square().mean()
        gradients = torch.autograd.grad(loss, [weight for _, weight in model.trained_parameters()])
        results.append((responses.small, responses.medium, responses.large, *gradients))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.timeout(120)
def test_autocast_trains_and_predicts_with_float32_weights():
    model = built()
    features, words = inputs(2, 3)
    clip = torch.tensor([1, 0, 1])
    exact = model.eval()(features, words, clip).large.detach()
    with torch.autocast("cpu", torch.bfloat16):
        with torch.inference_mode():
            rough = model(features, words, clip).large
        model.train()
        model(features, words, clip).large.square().mean().backward()
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()
    for name, weight in model.trained_parameters():
        assert weight.grad is not None and weight.grad.dtype == torch.float32 and weight.grad.isfinite().all(), name


def test_the_sentence_matters():
    for attention in (True, False):
        model = built(attention=attention).eval()
        features, words = inputs(1, 2)
        large = model(features, words, torch.tensor([0, 0])).large
        assert not torch.allclose(large[0], large[1])


def test_only_the_head_and_what_follows_is_trained():
    model = built()
    names = {name for name, _ in model.trained_parameters()}
    left_out = {name for name, _ in model.named_parameters()} - names
    assert {name.split(".")[0] for name in names} == {"video", "text", "attention", "decoder"}
    assert all(name.startswith("video.mixed_4f.") for name in names if name.startswith("video."))
    assert all(name.startswith("video.") and "mixed_4f" not in name for name in left_out)


def test_the_frozen_trunk_evaluates_while_the_rest_trains():
    model = built().train()
    assert model.training and model.decoder.training and model.video.mixed_4f.branch_0.batch3d.training
    assert not model.video.mixed_4e.branch_0.batch3d.training
    before = {name: tensor.clone() for name, tensor in model.video.state_dict().items()}
    model(*inputs(2, 2))
    changed = {name for name, tensor in model.video.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.startswith("mixed_4f.") for name in changed)
    assert not model.eval().video.mixed_4f.training


def test_without_fusion_the_large_head_predicts():
    for mode in ("fast", "plain"):
        fused, single = built(mode=mode).eval(), built(mode=mode, fused=False).eval()
        assert not any(name.startswith("decoder.fusion") for name in single.state_dict())
        single.load_state_dict({name: fused.state_dict()[name] for name in single.state_dict()})
        with torch.no_grad():
            fused.decoder.fusion.weight.zero_()
            fused.decoder.fusion.bias.zero_()
            fused.decoder.fusion.weight[0, 2, 1, 1] = 1  # of the three responses the large one alone
            expected, found = fused(*inputs(2, 2)), single(*inputs(2, 2))
        torch.testing.assert_close(found.large, expected.large)
        torch.testing.assert_close(found.small, expected.small)
    assert acga.assemble(single.sizes).sizes == single.sizes != fused.sizes


def test_a_resnet_may_stand_in_for_i3d():
    video = ResNet(18, frames=2)
    model = acga.build(video, 6, (5, 4), (6, 5, 4), True, "scaled", Generator().manual_seed(0)).train()
    assert model.sizes.video == BackboneSizes("resnet18", "rgb", 0.0, 1.0, 2)
    assert acga.assemble(model.sizes).sizes == model.sizes
    names = {name for name, _ in model.trained_parameters() if name.startswith("video.")}
    assert names and all(name.startswith("video.layer3.1.") for name in names)
    assert video.layer3[1].training and video.layer3[1].bn1.training and not video.layer3[0].bn1.training
    features, words = torch.randn(2, 256, 2, 3, 2).relu(), torch.randn(2, 5, 6)
    expected = functional.normalize(video.eval().head(features).mean(2), dim=1)
    vision, language = model.eval().attention(expected, model.text(words), torch.arange(2))
    torch.testing.assert_close(model(features, words).large, model.decoder(vision, language).large)


def test_a_network_is_a_pure_function_of_its_generator():
    first, second, other = (built(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["text.convolution.weight"], other["text.convolution.weight"])


def test_scaling_brings_visual_columns_up_and_leaves_coordinates():
    authors, scaled = built(initialisation="authors").attention, built(initialisation="scaled").attention
    channels = built().video.channels["mixed_4f"]
    for name in ("reduce", "key", "value"):
        old, new = authors.get_submodule(name).weight, scaled.get_submodule(name).weight
        torch.testing.assert_close(new[:, :channels], old[:, :channels] * math.sqrt(channels))
        assert torch.equal(new[:, channels:], old[:, channels:])
    assert torch.equal(authors.gate.weight, scaled.gate.weight)


def apart(initialisation: str) -> float:
    """How far the attended features of two kinds of cells lie apart, relative to those of the values themselves."""
    attention = built(initialisation=initialisation).attention
    kinds = torch.zeros(1, built().video.channels["mixed_4f"], 2, 4)
    kinds[:, 0, :, :2] = kinds[:, 1, :, 2:] = 1
    with torch.no_grad():
        attended = attention(kinds, torch.zeros(1, built().text.word_dim, 3), torch.tensor([0]))[0][0].flatten(1)
        values = attention.value(cells_with_coordinates(kinds))[0, :, : kinds.shape[1]].T
    return float((attended[:, 0] - attended[:, 3]).norm() / (values[:, 0] - values[:, 3]).norm())


def test_cells_of_a_scaled_network_begin_by_attending_to_cells_like_themselves():
    assert apart("authors") < 0.05, "every cell sees the mean of all"
    assert apart("scaled") > 0.2


def test_a_scaled_network_starts_with_the_mean_of_its_responses():
    model = built(initialisation="scaled", mode="plain").eval()
    features, words = inputs(1, 1)
    visual = functional.normalize(model.video.head(features).mean(2), dim=1)
    attended = model.attention(visual, model.text(words), torch.tensor([0]))
    parts: dict[str, torch.Tensor] = {}
    heads = {"small": model.decoder.mask_small, "medium": model.decoder.mask_medium, "large": model.decoder.mask_large}
    for name, head in heads.items():
        head[-1].register_forward_hook(lambda _module, _inputs, output, name=name: parts.update({name: output}))
    fused = model.decoder(*attended).large
    size = fused.shape[-2:]
    stack = [functional.interpolate(parts[name], size=size, mode="bilinear") for name in heads]
    torch.testing.assert_close(fused, torch.cat(stack, dim=1).mean(1))


def test_an_unknown_initialisation_is_refused():
    with pytest.raises(UnknownInitialisation, match="orthogonal"):
        built(initialisation="orthogonal")
