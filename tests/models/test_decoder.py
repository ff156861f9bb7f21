import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Generator, nn

from models.decoder import Decoder, Responses, enlarged
from models.initialisation import initialise_default

CHANNELS, DIM = 3, 2


def decoder() -> Decoder:
    module = Decoder(CHANNELS, DIM, channels=(4, 3), widths=(4, 3, 2)).double()
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


def test_enlarging_is_linear_between_the_centres_of_pixels():
    row = torch.tensor([[[[0.0, 4.0]]]])
    assert enlarged(row, (1, 8)).flatten().tolist() == [0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4]


def test_the_responses_are_the_equations_of_the_paper():
    module = decoder()
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

    found = module(visual, language)
    for response, expected in ((found.small, small), (found.medium, medium), (found.large, fused)):
        np.testing.assert_allclose(response.detach().numpy(), expected[:, 0], rtol=1e-9, atol=1e-12)


def test_responses_are_four_times_finer_each():
    responses = decoder()(torch.zeros(1, CHANNELS, 2, 5).double(), torch.zeros(1, DIM, 2, 5).double())
    assert isinstance(responses, Responses)
    assert responses.small.shape == (1, 2, 5)
    assert responses.medium.shape == (1, 8, 20)
    assert responses.large.shape == (1, 32, 80)
