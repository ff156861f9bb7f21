import numpy as np
import pytest
import torch
from torch import Generator

from models.attention import CrossGuidedAttention, SentenceTiling, attend_cells, attend_words
from models.backbones.initialisation import initialise_linear
from models.layers import Mode

CHANNELS, DIM, LENGTH, HEIGHT, WIDTH = 6, 5, 4, 3, 2


def inputs(sentences: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = Generator().manual_seed(1)
    visual = torch.randn(2, CHANNELS, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    words = torch.randn(sentences, DIM, LENGTH, generator=generator, dtype=torch.float64)
    return visual, words, torch.arange(sentences) % 2


MODES = ("fast", "plain")


def attention(mode: Mode) -> CrossGuidedAttention:
    module = CrossGuidedAttention(CHANNELS, DIM, mode).double()
    initialise_linear(module, Generator().manual_seed(2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(20).add_(0.1)  # far from the start, where all likenesses are alike
    return module


def softmax(values: np.ndarray) -> np.ndarray:
    exponentials = np.exp(values)
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_cells_like_no_word_get_the_mean_of_all_words_padding_too():
    words = torch.tensor([[[1.0, 5.0, 0.0], [2.0, 4.0, 0.0]]])
    assert attend_words(torch.zeros(1, 1, 2), words).tolist() == [[[2.0, 2.0]]]


def test_a_cell_very_like_a_word_gets_that_word():
    words = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    torch.testing.assert_close(attend_words(torch.tensor([[[100.0, 0.0]]]), words), torch.tensor([[[1.0, 0.0]]]))


def test_values_are_taken_where_the_query_is_like_the_key():
    keys = torch.tensor([[[100.0, 0.0], [0.0, 0.0]]])
    queries = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    values = torch.tensor([[[3.0, 3.0], [7.0, 5.0]]])
    torch.testing.assert_close(attend_cells(keys, queries, values), torch.tensor([[[7.0, 5.0], [5.0, 4.0]]]))


@pytest.mark.parametrize("mode", MODES)
def test_both_directions_are_the_equations_of_the_paper(mode):
    module = attention(mode)
    visual, words, clip = inputs(2)
    weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}

    def linear(name: str, rows: np.ndarray) -> np.ndarray:
        return np.einsum("bnf,gf->bng", rows, weights[f"{name}.weight"]) + weights[f"{name}.bias"]

    rows = []
    for y in range(HEIGHT):
        for x in range(WIDTH):
            low, high = (2 * x / WIDTH - 1, 2 * y / HEIGHT - 1), (2 * (x + 1) / WIDTH - 1, 2 * (y + 1) / HEIGHT - 1)
            centre = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2)
            where = np.array([*low, *high, *centre, 1 / WIDTH, 1 / HEIGHT])
            rows.append(np.concatenate([visual.numpy()[:, :, y, x], np.tile(where, (2, 1))], axis=1))
    located = np.stack(rows, axis=1)  # b, n, f
    text = words.numpy()
    likeness = softmax(np.einsum("bnd,bdl->bnl", linear("reduce", located), text) / np.sqrt(DIM))
    language = np.einsum("bnl,bdl->bnd", likeness, text)
    gate = linear("gate", text.max(-1)[:, None])
    keys, queries, values = linear("key", located) * gate, linear("query", located) * gate, linear("value", located)
    affinity = softmax(np.einsum("bnf,bmf->bnm", keys, queries) / np.sqrt(CHANNELS + 8))
    vision = np.einsum("bnm,bmf->bnf", affinity, values)[..., :CHANNELS]

    found_vision, found_language = module(visual, words, clip)
    shape = (2, HEIGHT, WIDTH, -1)
    np.testing.assert_allclose(found_vision.detach(), vision.reshape(shape).transpose(0, 3, 1, 2), rtol=1e-10)
    np.testing.assert_allclose(found_language.detach(), language.reshape(shape).transpose(0, 3, 1, 2), rtol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_sentences_on_one_clip_share_it(mode):
    module = attention(mode)
    visual, words, clip = inputs(5)
    for shared, repeated in zip(module(visual, words, clip), module(visual[clip], words, torch.arange(5)), strict=True):
        torch.testing.assert_close(shared, repeated)


def test_keys_queries_and_values_are_computed_once_a_clip():
    module = attention("fast")
    rows = []
    for linear in (module.reduce, module.key, module.query):
        linear.register_forward_hook(lambda _module, inputs, _output: rows.append(len(inputs[0])))
    visual, words, clip = inputs(5)
    module(visual, words, clip)
    assert rows == [2, 2, 2], "two clips, five sentences"


def test_both_modes_give_the_same_outputs_and_gradients():
    module = attention("plain")
    visual, words, clip = inputs(5)
    results = {}
    for mode in MODES:
        module.mode = mode
        outputs = module(visual.requires_grad_(), words.requires_grad_(), clip)
        loss = outputs[0].square().sum() + outputs[1].square().sum()
        results[mode] = (*outputs, *torch.autograd.grad(loss, (visual, words, *module.parameters())))
    for ours, theirs in zip(results["fast"], results["plain"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_without_attention_every_cell_gets_the_maximum_over_the_words():
    visual, words, clip = inputs(3)
    vision, language = SentenceTiling()(visual, words, clip)
    assert torch.equal(vision, visual[clip])
    for y in range(HEIGHT):
        for x in range(WIDTH):
            assert torch.equal(language[:, :, y, x], words.max(-1).values)


@pytest.fixture
def several_threads():
    """More threads than cores, so that they come by in ever other orders."""
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "module", [CrossGuidedAttention(40, 16), CrossGuidedAttention(40, 16, "plain"), SentenceTiling()]
)
def test_gradients_have_the_same_bits_in_whatever_order_threads_come_by(module, several_threads):
    generator = Generator().manual_seed(3)
    visual = torch.randn(2, 40, 16, 16, generator=generator)
    words, clip = torch.randn(15, 16, 6, generator=generator), torch.tensor([0] * 8 + [1] * 7)
    pull = torch.randn(15, 40, 16, 16, generator=generator)

    def gradient() -> torch.Tensor:
        leaf = visual.clone().requires_grad_()
        vision, language = module(leaf, words, clip)
        ((vision * pull).sum() + language.square().sum()).backward()
        return leaf.grad

    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(40))
