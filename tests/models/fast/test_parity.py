"""The network, in both modes, against the equations of the paper and the authors' code, written out in float64.

The oracle below shares nothing with the network but the names of its weights: sums of products over shifted arrays, its
own interpolation and transposed convolution, and no layer of torch's. Its own gradients are checked by differences.
"""

import itertools

import pytest
import torch
from torch import Generator, Tensor, einsum

from models import acga
from models.acga import ACGA
from models.backbones.i3d import I3D
from models.layers import Mode

MODES: tuple[Mode, ...] = ("fast", "plain")
EPS, MOMENTUM = 1e-3, 0.1

Weights = dict[str, Tensor]


def convolved(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution over all axes after the second, an odd number of taps, zeros beyond the border."""
    sizes, taps = maps.shape[2:], weight.shape[2:]
    framed = maps.new_zeros(*maps.shape[:2], *(n + k - 1 for n, k in zip(sizes, taps, strict=True)))
    framed[(..., *(slice(k // 2, k // 2 + n) for n, k in zip(sizes, taps, strict=True)))] = maps
    total = 0
    for tap in itertools.product(*map(range, taps)):
        window = framed[(..., *(slice(k, k + n) for n, k in zip(sizes, tap, strict=True)))]
        total = total + einsum("bc...,oc->bo...", window, weight[(..., *tap)])
    return total if bias is None else total + bias.reshape(-1, *[1] * len(sizes))


def transposed(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Eight taps, stride four, padding two: every pixel paints its patch, and two pixels all round are cut off."""
    batch, _, height, width = maps.shape
    canvas = maps.new_zeros(batch, weight.shape[1], 4 * height + 4, 4 * width + 4)
    for y, x in itertools.product(range(8), repeat=2):
        canvas[:, :, y : y + 4 * height : 4, x : x + 4 * width : 4] += einsum("bchw,co->bohw", maps, weight[:, :, y, x])
    return canvas[:, :, 2:-2, 2:-2] + bias.reshape(-1, 1, 1)


def interpolation(small: int, large: int) -> Tensor:
    """Linear between the centres of pixels, constant beyond the outermost."""
    matrix = torch.zeros(large, small, dtype=torch.float64)
    for place in range(large):
        source = min(max((place + 0.5) * small / large - 0.5, 0.0), small - 1.0)
        low = int(source)
        matrix[place, low] += 1 - (source - low)
        matrix[place, min(low + 1, small - 1)] += source - low
    return matrix


def upsampled(maps: Tensor, height: int, width: int) -> Tensor:
    rows, columns = interpolation(maps.shape[2], height), interpolation(maps.shape[3], width)
    return einsum("yh,bchw,xw->bcyx", rows, maps, columns)


def coordinates(batch: int, height: int, width: int) -> Tensor:
    cells = torch.zeros(8, height, width, dtype=torch.float64)
    for y, x in itertools.product(range(height), range(width)):
        low, high = (2 * x / width - 1, 2 * y / height - 1), (2 * (x + 1) / width - 1, 2 * (y + 1) / height - 1)
        centre = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2)
        cells[:, y, x] = torch.tensor([*low, *high, *centre, 1 / width, 1 / height], dtype=torch.float64)
    return cells.expand(batch, -1, -1, -1)


def unit(weights: Weights, name: str, maps: Tensor, training: bool, statistics: Weights) -> Tensor:
    """Convolution, batch norm (with the batch's statistics in training) and ReLU."""
    name = f"video.mixed_4f.{name}"
    maps = convolved(maps, weights[f"{name}.conv3d.weight"])
    if training:
        count = maps[:, 0].numel()
        mean, variance = maps.mean((0, 2, 3, 4)), maps.var((0, 2, 3, 4), correction=0)
        unbiased = variance * count / (count - 1)
        for kind, value in (("mean", mean), ("var", unbiased)):
            old = weights[f"{name}.batch3d.running_{kind}"]
            statistics[f"{name}.batch3d.running_{kind}"] = (1 - MOMENTUM) * old + MOMENTUM * value.detach()
    else:
        mean, variance = (weights[f"{name}.batch3d.running_{kind}"] for kind in ("mean", "var"))
    scale = weights[f"{name}.batch3d.weight"] / (variance + EPS).sqrt()
    shift = weights[f"{name}.batch3d.bias"] - mean * scale
    return (maps * scale.reshape(-1, 1, 1, 1) + shift.reshape(-1, 1, 1, 1)).clamp(min=0)


def head(weights: Weights, features: Tensor, training: bool, statistics: Weights) -> Tensor:
    """I3D's `mixed_4f`, the mean over time and the L2 norm."""

    def apply(name: str, maps: Tensor) -> Tensor:
        return unit(weights, name, maps, training, statistics)

    sizes = features.shape[2:]
    framed = features.new_zeros(*features.shape[:2], *(n + 2 for n in sizes))
    framed[:, :, 1:-1, 1:-1, 1:-1] = features
    shifts = itertools.product(range(3), repeat=3)
    windows = [framed[(..., *(slice(k, k + n) for n, k in zip(sizes, shift, strict=True)))] for shift in shifts]
    branches = (
        apply("branch_0", features),
        apply("branch_1.1", apply("branch_1.0", features)),
        apply("branch_2.1", apply("branch_2.0", features)),
        apply("branch_3.1", torch.stack(windows).amax(0)),
    )
    visual = torch.cat(branches, dim=1).mean(2)
    return visual / visual.square().sum(1, keepdim=True).sqrt()


def attended(weights: Weights, visual: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Both directions of attention."""
    batch, channels, height, width = visual.shape
    cells = torch.cat([visual, coordinates(batch, height, width)], dim=1).reshape(batch, -1, height * width)

    def linear(name: str, columns: Tensor) -> Tensor:
        weight, bias = (weights[f"attention.{name}.{kind}"] for kind in ("weight", "bias"))
        return einsum("bfn,gf->bgn", columns, weight) + bias[:, None]

    likeness = einsum("bdn,bdl->bnl", linear("reduce", cells), words) / words.shape[1] ** 0.5
    shares = likeness.exp() / likeness.exp().sum(-1, keepdim=True)
    language = einsum("bnl,bdl->bdn", shares, words)
    gate = linear("gate", words.amax(-1)[:, :, None])
    keys, queries = linear("key", cells) * gate, linear("query", cells) * gate
    likeness = einsum("bfn,bfm->bnm", keys, queries) / (channels + 8) ** 0.5
    shares = likeness.exp() / likeness.exp().sum(-1, keepdim=True)
    vision = einsum("bnm,bfm->bfn", shares, linear("value", cells))[:, :channels]
    return vision.reshape(visual.shape), language.reshape(batch, -1, height, width)


def oracle(weights: Weights, features: Tensor, words: Tensor, clip: Tensor, training: bool) -> tuple[Weights, Weights]:
    """The responses, and batch norms' statistics afterwards."""
    statistics: Weights = {}
    text = words.transpose(1, 2)
    text = convolved(text, weights["text.convolution.weight"], weights["text.convolution.bias"]).tanh()
    visual, language = attended(weights, head(weights, features, training, statistics)[clip], text)

    def layer(name: str, maps: Tensor) -> Tensor:
        return convolved(maps, weights[f"decoder.{name}.weight"], weights[f"decoder.{name}.bias"])

    def respond(name: str, maps: Tensor) -> Tensor:
        size = maps.shape[2:]
        maps = torch.cat([maps, upsampled(language, *size), coordinates(len(maps), *size)], dim=1)
        maps = layer(f"{name}.2", layer(f"{name}.0", maps).clamp(min=0)).clamp(min=0)
        return layer(f"{name}.4", maps)

    def enlarge(name: str, maps: Tensor) -> Tensor:
        taps, bias = weights[f"decoder.{name}.0.weight"], weights[f"decoder.{name}.0.bias"]
        return layer(f"{name}.1", transposed(maps, taps, bias))

    small = respond("mask_small", visual)
    visual = enlarge("upsample_medium", visual)
    medium = respond("mask_medium", visual)
    large = respond("mask_large", enlarge("upsample_large", visual))
    size = large.shape[2:]
    fused = layer("fusion", torch.cat([upsampled(small, *size), upsampled(medium, *size), large], dim=1))
    return {"small": small[:, 0], "medium": medium[:, 0], "large": fused[:, 0]}, statistics


def network(mode: Mode) -> ACGA:
    """A tiny network, every weight and statistic of it random."""
    generator = Generator().manual_seed(1)
    model = acga.build(I3D("rgb", EPS, 1 / 16), 6, (5, 4), (6, 5, 4), True, "scaled", generator, mode).double()
    for name, tensor in model.state_dict().items():
        if name.endswith(("batch3d.weight", "running_var")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif name.endswith(("bias", "running_mean")):
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    return model


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Two clips, three sentences of five words, maps of 2 x 3."""
    generator = Generator().manual_seed(2)
    features = torch.randn(2, 33, 4, 2, 3, generator=generator, dtype=torch.float64).relu()
    return features, torch.randn(3, 5, 6, generator=generator, dtype=torch.float64), torch.tensor([1, 0, 1])


def total(responses: Weights) -> Tensor:
    """A number that depends on every pixel of every response in its own way."""
    generator = Generator().manual_seed(3)
    terms = [
        (responses[name] * torch.randn(responses[name].shape, generator=generator, dtype=torch.float64)).sum()
        for name in ("small", "medium", "large")
    ]
    return torch.stack(terms).sum()


def oracle_weights(model: ACGA) -> Weights:
    trained = {name for name, _ in model.trained_parameters()}
    return {name: tensor.clone().requires_grad_(name in trained) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("training", [False, True])
def test_the_oracles_gradients_are_slopes(training):
    weights = oracle_weights(network("plain"))
    slopes = torch.autograd.grad(total(oracle(weights, *inputs(), training)[0]), list(trained := trainable(weights)))
    generator = Generator().manual_seed(4)
    step = 1e-8  # small, for few ReLUs to change sign on the way
    ways = [torch.randn(weight.shape, generator=generator, dtype=torch.float64) for weight in trained]
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for weight, way in zip(trained, ways, strict=True):
                weight += sign * step * way
            ends.append(total(oracle(weights, *inputs(), training)[0]))
            for weight, way in zip(trained, ways, strict=True):
                weight -= sign * step * way
    expected = sum((slope * way).sum() for slope, way in zip(slopes, ways, strict=True))
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), expected, rtol=1e-5, atol=1e-5)


def trainable(weights: Weights) -> list[Tensor]:
    return [tensor for tensor in weights.values() if tensor.requires_grad]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_responses_gradients_and_statistics_are_those_of_the_equations(mode, training):
    model = network(mode).train(training)
    weights = oracle_weights(model)
    expected, statistics = oracle(weights, *inputs(), training)
    names = [name for name, tensor in weights.items() if tensor.requires_grad]
    slopes = dict(zip(names, torch.autograd.grad(total(expected), trainable(weights)), strict=True))

    found = model(*inputs())
    for name, response in expected.items():
        torch.testing.assert_close(getattr(found, name), response, rtol=0, atol=1e-9)
    total(vars(found)).backward()
    gradients = {name: parameter.grad for name, parameter in model.trained_parameters()}
    assert set(gradients) == set(slopes)
    for name, slope in slopes.items():
        assert slope.abs().max() > 0, f"{name} is not used"
        torch.testing.assert_close(
            gradients[name], slope, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )
    after = model.state_dict()
    for name, statistic in statistics.items():
        torch.testing.assert_close(after[name], statistic, rtol=1e-9, atol=1e-9)
    assert len(statistics) == (12 if training else 0)


@pytest.mark.parametrize("mode", MODES)
def test_predicted_responses_are_those_of_the_equations(mode):
    model = network(mode).eval()
    expected, _ = oracle(oracle_weights(model), *inputs(), training=False)
    for _ in range(2):  # what is kept from the first time serves the second
        with torch.inference_mode():
            found = model(*inputs())
        for name, response in expected.items():
            torch.testing.assert_close(getattr(found, name), response.detach(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_float32_logits_are_within_1e_4(mode):
    model = network(mode).eval()
    expected, _ = oracle(oracle_weights(model), *inputs(), training=False)
    features, words, clip = inputs()
    found = model.float()(features.float(), words.float(), clip)
    for name, response in expected.items():
        torch.testing.assert_close(getattr(found, name).double(), response, rtol=0, atol=1e-4)
