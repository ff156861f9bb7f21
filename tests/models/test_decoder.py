import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from torch import Generator, nn

from models.backbones.initialisation import initialise_default
from models.decoder import Decoder, Responses
from models.layers import Mode

CHANNELS, DIM = 3, 2


def decoder(mode: Mode) -> Decoder:
    module = Decoder(CHANNELS, DIM, channels=(4, 3), widths=(4, 3, 2), mode=mode).double()
    initialise_default(module, Generator().manual_seed(0))
    return module


def convolved(maps: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    margin = weight.shape[-1] // 2
    padded = np.pad(maps, [(0, 0), (0, 0), (margin, margin), (margin, margin)])
    windows = sliding_window_view(padded, weight.shape[2:], (2, 3))
    return np.einsum("bchwij,dcij->bdhw", windows, weight) + bias.reshape(1, -1, 1, 1)


def transposed(maps: np.ndarray, layer: nn.ConvTranspose2d) -> np.ndarray:
    """Return the transposed convolution of kernel 8, stride 4, padding 2, each input pixel painted by itself."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    batch, _, height, width = maps.shape
    canvas = np.zeros((batch, weight.shape[1], 4 * height + 4, 4 * width + 4))
    for y in range(height):
        for x in range(width):
            patch = np.einsum("bc,cdij->bdij", maps[:, :, y, x], weight)
            canvas[:, :, 4 * y : 4 * y + 8, 4 * x : 4 * x + 8] += patch
    return canvas[:, :, 2:-2, 2:-2] + bias.reshape(1, -1, 1, 1)


def upsampling(small: int, large: int) -> np.ndarray:
    """Return the matrix that enlarges a row: linear between the centres of pixels, constant beyond the outermost."""
    matrix = np.zeros((large, small))
    for place in range(large):
        source = min(max((place + 0.5) * small / large - 0.5, 0), small - 1)
        low = min(int(source), small - 2) if small > 1 else 0
        matrix[place, low] += 1 - (source - low)
        matrix[place, min(low + 1, small - 1)] += source - low
    return matrix


def upsampled(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = upsampling(maps.shape[2], height), upsampling(maps.shape[3], width)
    return np.einsum("yh,bchw,xw->bcyx", rows, maps, columns)


def described(visual: np.ndarray, language: np.ndarray) -> np.ndarray:
    batch, _, height, width = visual.shape
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    left, top, right, bottom = 2 * x / width - 1, 2 * y / height - 1, 2 * (x + 1) / width - 1, 2 * (y + 1) / height - 1
    sizes = (np.full(x.shape, 1 / width), np.full(x.shape, 1 / height))
    where = np.stack([left, top, right, bottom, (left + right) / 2, (top + bottom) / 2, *sizes])
    return np.concatenate([visual, upsampled(language, height, width), np.tile(where, (batch, 1, 1, 1))], axis=1)


def masked(maps: np.ndarray, head: nn.Sequential) -> np.ndarray:
    maps = np.maximum(convolved(maps, head[0]), 0)
    return convolved(np.maximum(convolved(maps, head[2]), 0), head[4])


MODES = ("fast", "plain")


@pytest.mark.parametrize("mode", MODES)
def test_the_responses_are_the_equations_of_the_paper(mode):
    module = decoder(mode)
    generator = Generator().manual_seed(1)
    visual = torch.randn(2, CHANNELS, 3, 2, generator=generator, dtype=torch.float64)
    language = torch.randn(2, DIM, 3, 2, generator=generator, dtype=torch.float64)

    text, vision = language.numpy(), visual.numpy()
    small = masked(described(vision, text), module.mask_small)
    vision = convolved(transposed(vision, module.upsample_medium[0]), module.upsample_medium[1])
    medium = masked(described(vision, text), module.mask_medium)
    vision = convolved(transposed(vision, module.upsample_large[0]), module.upsample_large[1])
    large = masked(described(vision, text), module.mask_large)
    stacked = np.concatenate([upsampled(small, 48, 32), upsampled(medium, 48, 32), large], axis=1)
    fused = convolved(stacked, module.fusion)

    for found in (module(visual, language), without_gradients(module, visual, language)):
        for response, expected in ((found.small, small), (found.medium, medium), (found.large, fused)):
            np.testing.assert_allclose(response.detach().numpy(), expected[:, 0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("mode", MODES)
def test_responses_are_four_times_finer_each(mode):
    responses = decoder(mode)(torch.zeros(1, CHANNELS, 2, 5).double(), torch.zeros(1, DIM, 2, 5).double())
    assert isinstance(responses, Responses)
    assert responses.small.shape == (1, 2, 5)
    assert responses.medium.shape == (1, 8, 20)
    assert responses.large.shape == (1, 32, 80)


@settings(deadline=None, max_examples=10)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 5)),
    sentences=st.integers(1, 3),
    precision=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 2**31),
)
def test_both_modes_give_the_same_outputs_and_gradients(size, sentences, precision, seed):
    """At the borders too, and in strips (above 8 rows there are several)."""
    module = decoder("plain").to(precision)
    generator = Generator().manual_seed(seed)
    inputs = [
        torch.randn(sentences, channels, *size, generator=generator, dtype=precision, requires_grad=True)
        for channels in (CHANNELS, DIM)
    ]
    expected, wanted = outputs_and_gradients(module, inputs)
    module.mode = "fast"
    found, gradients = outputs_and_gradients(module, inputs)
    strips = without_gradients(module, *inputs)
    tolerance = 1e-9 if precision == torch.float64 else 1e-4
    for response in ("small", "medium", "large"):
        for ours in (found, strips):
            torch.testing.assert_close(getattr(ours, response), getattr(expected, response), rtol=0, atol=tolerance)
    for ours, theirs in zip(gradients, wanted, strict=True):
        scale = max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=tolerance)


def outputs_and_gradients(module: Decoder, inputs: list[torch.Tensor]) -> tuple[Responses, tuple[torch.Tensor, ...]]:
    responses = module(*inputs)
    loss = torch.stack([(r * r).mean() + r.mean() for r in (responses.small, responses.medium, responses.large)]).sum()
    return responses, torch.autograd.grad(loss, (*inputs, *module.parameters()))


def without_gradients(module: Decoder, visual: torch.Tensor, language: torch.Tensor) -> Responses:
    with torch.inference_mode():
        return module(visual, language)


def test_evaluation_sees_every_change_of_the_weights():
    module = decoder("fast")
    inputs = torch.ones(1, CHANNELS, 1, 2).double(), torch.ones(1, DIM, 1, 2).double()
    seen = [without_gradients(module, *inputs).large]
    assert torch.equal(without_gradients(module, *inputs).large, seen[0])
    with torch.no_grad():
        module.mask_large.first.weight.mul_(2)
    seen.append(without_gradients(module, *inputs).large)
    module.upsample_large.smoothing.bias.data.add_(0.5)  # behind autograd's back
    seen.append(without_gradients(module, *inputs).large)
    module.load_state_dict({name: tensor * 1.1 for name, tensor in module.state_dict().items()})
    seen.append(without_gradients(module, *inputs).large)
    module.float()
    seen.append(without_gradients(module, inputs[0].float(), inputs[1].float()).large.double())
    for before, after in itertools.pairwise(seen[:-1]):
        assert not torch.allclose(before, after)
    torch.testing.assert_close(seen[-1], seen[-2], rtol=0, atol=1e-5)
    module.double()
    module.mode = "plain"
    torch.testing.assert_close(without_gradients(module, *inputs).large, seen[-2], rtol=0, atol=1e-5)


def test_training_after_evaluation_and_a_copy_see_their_own_weights():
    module = decoder("fast")
    inputs = torch.ones(1, CHANNELS, 1, 2).double(), torch.ones(1, DIM, 1, 2).double()
    kept = without_gradients(module, *inputs).large
    twin = copy.deepcopy(module)
    torch.testing.assert_close(without_gradients(twin, *inputs).large, kept)
    module(*inputs).large.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_autocast_gives_about_the_same_and_gradients_in_the_weights_precision(mode):
    module = decoder(mode).float()
    generator = Generator().manual_seed(1)
    visual, language = (
        torch.randn(2, CHANNELS, 3, 2, generator=generator),
        torch.randn(2, DIM, 3, 2, generator=generator),
    )
    exact, wanted = outputs_and_gradients(module, [visual.requires_grad_(), language.requires_grad_()])
    with torch.autocast("cpu", torch.bfloat16):
        rough, gradients = outputs_and_gradients(module, [visual, language])
        strips = without_gradients(module, visual, language)
    # 8 bits of mantissa, through ten layers
    for ours in (rough.large, strips.large):
        assert float((ours.float() - exact.large).detach().abs().max()) < 0.05 * float(exact.large.detach().abs().max())
    for ours, theirs in zip(gradients, wanted, strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm()) < 0.1 * float(theirs.norm()) + 1e-3
    assert torch.equal(without_gradients(module, visual, language).large.isfinite(), torch.ones(2, 48, 32).bool())
