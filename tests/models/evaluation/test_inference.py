import functools

import pytest
import torch
from torch import Generator

from models import acga
from models.backbones.i3d import I3D
from models.backbones.initialisation import seed_i3d
from models.evaluation.inference import predict


@functools.cache
def trunk_weights() -> dict[str, torch.Tensor]:
    i3d = I3D("rgb", eps=1e-3, width=1 / 16)
    seed_i3d(i3d, 0)
    return i3d.state_dict()


def model() -> acga.ACGA:
    i3d = I3D("rgb", eps=1e-3, width=1 / 16)
    i3d.load_state_dict(trunk_weights())
    return acga.build(i3d, 6, (5, 4), (6, 5, 4), True, "scaled", Generator().manual_seed(2))


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = Generator().manual_seed(1)
    features = torch.randn(2, 33, 4, 2, 3, generator=generator).relu()
    return features, torch.randn(3, 4, 6, generator=generator), torch.tensor([1, 1, 0])


@pytest.mark.parametrize("mode", ["fast", "plain"])
def test_a_prediction_is_the_evaluating_networks_forward_pass(mode):
    network = model().train()
    network.mode = mode
    features, words, clip = inputs()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = predict(network, features, words, clip)
    assert not network.training and not found.large.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    expected = network(features, words, clip)
    torch.testing.assert_close(found.large, expected.large)


def test_stored_half_precision_features_are_widened():
    network = model()
    features, words, clip = inputs()
    found = predict(network, features.half(), words.half(), clip)
    assert found.large.dtype == torch.float32
    torch.testing.assert_close(found.large, predict(network, features.half().float(), words.half().float(), clip).large)


def test_sentences_predicted_together_and_one_by_one_are_the_same():
    network = model().double()
    features, words, clip = inputs()
    together = predict(network, features, words, clip)
    for index in range(len(words)):
        alone = predict(network, features[clip[[index]]], words[[index]])
        torch.testing.assert_close(together.large[[index]], alone.large, rtol=0, atol=1e-12)


def test_training_between_predictions_shows():
    network = model()
    features, words, clip = inputs()
    before = predict(network, features, words, clip).large
    optimiser = torch.optim.Adam([weight for _, weight in network.trained_parameters()], lr=1e-2, fused=True)
    network.train()(features, words, clip).large.mean().backward()
    optimiser.step()
    after = predict(network, features, words, clip).large
    assert not torch.allclose(after, before)
    network.mode = "plain"
    torch.testing.assert_close(after, predict(network, features, words, clip).large, rtol=0, atol=1e-4)


def test_autocast_is_close_and_gives_float32():
    network = model()
    features, words, clip = inputs()
    exact = predict(network, features, words, clip).large
    with torch.autocast("cpu", torch.bfloat16):
        rough = predict(network, features, words, clip).large
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max().item() == pytest.approx(0, abs=0.05 * exact.abs().max().item())


def test_bfloat16_is_close():
    network = model()
    features, words, clip = inputs()
    exact = predict(network, features, words, clip).large
    rough = predict(network.bfloat16(), features, words, clip).large
    assert rough.dtype == torch.bfloat16
    # 8 bits of mantissa, through some fifteen layers
    assert (rough.float() - exact).abs().max().item() == pytest.approx(0, abs=0.05 * exact.abs().max().item())
