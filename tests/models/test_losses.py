import math

import numpy as np
import pytest
import torch
from torch import Generator

from models.decoder import Responses
from models.losses import Targets, response_losses, weighted_cross_entropy


def test_undecided_pixels_cost_ln_2_and_foreground_its_weight_of_it():
    mask = torch.tensor([[[1, 0], [0, 0]]], dtype=torch.uint8)
    found = weighted_cross_entropy(torch.zeros(1, 2, 2), mask, foreground_weight=1.5)
    assert found.item() == pytest.approx(math.log(2) * (1.5 + 1 + 1 + 1) / 4)


def test_each_response_has_its_own_mean():
    generator = Generator().manual_seed(0)
    shapes = ((2, 2, 1), (2, 8, 4), (2, 32, 16))
    logits = [torch.randn(shape, generator=generator) for shape in shapes]
    masks = [torch.randint(2, shape, generator=generator, dtype=torch.uint8) for shape in shapes]
    found = response_losses(Responses(*logits), Targets(*masks), foreground_weight=1.5)
    expected = []
    for response, mask in zip(logits, masks, strict=True):
        probability = 1 / (1 + np.exp(-response.double().numpy()))
        target = mask.numpy()
        expected.append(-np.mean(1.5 * target * np.log(probability) + (1 - target) * np.log(1 - probability)))
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
