"""Word vectors from hashes and from files."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.defects import Hits
from data.readers import a2d
from extractors.text.sentences import UnknownVectors, tokens, word_vectors
from extractors.text.word2vec import MalformedVectors, WrongDimension

TABLE = {"dog": [1.0, 2.0, 3.0], "the": [0.5, 0.25, 0.125], "Dog": [9.0, 9.0, 9.0], "man's": [-1.0, 0.0, 1.0]}
SENTENCES = ["the dog", "a dog of the man's"]


def write_table(path: Path, header: bool = False) -> Path:
    """The table in the format that the file's name says."""
    if ".bin" in path.name:
        content = f"{len(TABLE)} 3\n".encode()
        for word, vector in TABLE.items():
            content += word.encode() + b" " + np.array(vector, "<f4").tobytes() + b"\n"
    else:
        lines = [f"{word} {' '.join(map(str, vector))}" for word, vector in TABLE.items()]
        content = "\n".join([f"{len(TABLE)} 3"] * header + lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_words_are_parted_from_punctuation_but_keep_their_apostrophes() -> None:
    assert tokens("The man's 2nd dog, (brown) runs-fast!") == ("the", "man's", "2nd", "dog", "brown", "runs", "fast")
    assert tokens(" 'quoted' ... ") == ("quoted",)
    assert tokens("") == ()


def test_the_official_sentences_part_as_at_blanks(shared: Path) -> None:
    for query in a2d.read_queries(shared / "annotations" / "a2d_annotation.txt", Hits()):
        assert "".join(tokens(query.text)) == "".join(
            letter for letter in query.text if letter.isalnum() or letter == "'"
        )
        assert 1 <= len(tokens(query.text)) <= 20


def test_hashed_vectors_are_seeded_by_the_word() -> None:
    found = word_vectors(["dog the", "The dog."], "hash", 300, 20, 5, "zero")
    seed = int.from_bytes(hashlib.sha256(b"5:dog").digest(), "big")
    expected = np.random.Generator(np.random.PCG64(seed)).standard_normal(300).astype(np.float32)
    np.testing.assert_array_equal(found.values[0, 0], expected)
    np.testing.assert_array_equal(found.values[1, 1], expected)
    np.testing.assert_array_equal(found.values[0, 1], found.values[1, 0])
    assert not found.values[:, 2:].any()
    assert (found.values.shape, found.missing, found.truncated) == ((2, 20, 300), (), ())


def test_hashed_vectors_do_not_change() -> None:
    # Golden: whoever changes these recomputes every TextFeatures. To four digits, should numpy's last bits change.
    found = word_vectors(["dog"], "hash", 4, 1, 0, "zero").values[0, 0]
    np.testing.assert_allclose(found, [-0.20652446, 1.5041816, -1.3987650, -0.2765381], atol=1e-4)


def test_hashed_vectors_have_unit_variance_and_nothing_in_common() -> None:
    names = [f"word{number}" for number in range(40)]
    vectors = word_vectors([" ".join(names)], "hash", 300, 40, 0, "zero").values[0]
    assert abs(vectors.std() - 1) < 0.02  # 12,000 values: standard error 0.0065
    assert np.abs(np.corrcoef(vectors) - np.eye(40)).max() < 0.3  # 780 pairs: 5 standard errors of 0.058
    other = word_vectors([" ".join(names)], "hash", 300, 40, 1, "zero").values[0]
    assert not np.isclose(other, vectors).all(axis=1).any()


def test_long_sentences_are_cut_and_named() -> None:
    found = word_vectors(["one two", "one two three"], "hash", 8, 2, 0, "zero")
    assert found.truncated == (1,)
    np.testing.assert_array_equal(found.values[0], found.values[1])


@pytest.mark.parametrize("name", ["w.bin", "w.bin.gz", "w.txt", "w.txt.gz", "w.vec"])
def test_vectors_are_found_in_files(tmp_path: Path, name: str) -> None:
    path = write_table(tmp_path / name, header=".vec" in name)
    found = word_vectors(SENTENCES, str(path), 3, 6, 0, "zero")
    dog, the, mans, none = TABLE["dog"], TABLE["the"], TABLE["man's"], [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(found.values[0], [the, dog, none, none, none, none])
    np.testing.assert_array_equal(found.values[1], [none, dog, none, the, mans, none])
    assert found.missing == ("a", "of")


def test_words_without_a_vector_are_skipped_or_seeded(tmp_path: Path) -> None:
    path = str(write_table(tmp_path / "w.bin"))
    skipped = word_vectors(SENTENCES, path, 3, 6, 0, "skip")
    np.testing.assert_array_equal(skipped.values[1, :4], [TABLE["dog"], TABLE["the"], TABLE["man's"], [0.0, 0.0, 0.0]])
    seeded = word_vectors(SENTENCES, path, 3, 6, 0, "random")
    assert skipped.missing == seeded.missing == ("a", "of")
    assert (np.abs(seeded.values[1, [0, 2]]) <= 0.25).all() and seeded.values[1, [0, 2]].any(axis=1).all()
    np.testing.assert_array_equal(seeded.values[1, 1], TABLE["dog"])
    np.testing.assert_array_equal(word_vectors(["of"], path, 3, 6, 0, "random").values[0, 0], seeded.values[1, 2])


def test_a_large_binary_file_is_read_across_blocks(tmp_path: Path) -> None:
    dim, count = 300, 2000  # 2.4 MB, more than two blocks
    vectors = np.random.default_rng(0).standard_normal((count, dim)).astype("<f4")
    body = b"".join(f"w{number} ".encode() + vector.tobytes() for number, vector in enumerate(vectors))
    (tmp_path / "w.bin").write_bytes(f"{count} {dim}\n".encode() + body)
    wanted = [0, 870, 871, 872, 873, 874, 1745, 1999]
    found = word_vectors([f"w{number}" for number in wanted], str(tmp_path / "w.bin"), dim, 1, 0, "zero")
    assert found.missing == ()
    np.testing.assert_array_equal(found.values[:, 0], vectors[wanted])


@pytest.mark.parametrize("oov", ["zero", "skip", "random"])
def test_words_without_a_vector_are_counted(tmp_path: Path, oov: str) -> None:
    path = str(write_table(tmp_path / "w.bin"))
    sentences = ["a dog of a man", "The Cat", "", "cat cat dog dog cut off"]
    found = word_vectors(sentences, path, 3, 5, 0, oov)
    # `cut` is the fifth word and counts, `off` the sixth and does not
    assert found.occurrences == {"a": 2, "cat": 3, "cut": 1, "man": 1, "of": 1}
    assert list(found.occurrences) == ["a", "cat", "cut", "man", "of"] == list(found.missing)
    assert (found.total_words, found.truncated) == (12, (3,))
    hashes = word_vectors(sentences, "hash", 3, 5, 0, oov)
    assert (hashes.occurrences, hashes.total_words) == ({}, 12)


@given(sentences=st.lists(st.text(max_size=30), max_size=4))
def test_rows_follow_the_tokens_of_any_text(sentences: list[str]) -> None:
    found = word_vectors(sentences, "hash", 8, 5, 0, "zero")
    for place, sentence in enumerate(sentences):
        count = min(len(tokens(sentence)), 5)
        assert found.values[place, :count].any(axis=1).all()
        assert not found.values[place, count:].any()
        assert (place in found.truncated) == (len(tokens(sentence)) > 5)


def test_unknown_and_broken_vectors_are_errors(tmp_path: Path) -> None:
    for unknown in ("glove", str(tmp_path / "absent.bin"), str(tmp_path / "w.npy")):
        with pytest.raises(UnknownVectors, match="expected 'hash'"):
            word_vectors(SENTENCES, unknown, 3, 6, 0, "zero")
    with pytest.raises(UnknownVectors, match=r"is a folder.*expected text\.layer to be 'input' or 'last'"):
        word_vectors(SENTENCES, str(tmp_path), 3, 6, 0, "zero")
    for name in ("w.bin", "w.txt", "h.vec"):
        path = write_table(tmp_path / name, header=".vec" in name)
        with pytest.raises(WrongDimension, match=r"vectors of 3 values, but text\.dim is 300"):
            word_vectors(SENTENCES, str(path), 300, 6, 0, "zero")
    path = write_table(tmp_path / "w.bin")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(MalformedVectors, match="ends after 3 of 4 words"):
        word_vectors(SENTENCES, str(path), 3, 6, 0, "zero")
    path.write_bytes(b"no header here")
    with pytest.raises(MalformedVectors, match="no word2vec header"):
        word_vectors(SENTENCES, str(path), 3, 6, 0, "zero")
    (tmp_path / "w.txt").write_text("the 1 2 3\ndog 1 2 x\n")
    with pytest.raises(MalformedVectors, match="line 2"):
        word_vectors(SENTENCES, str(tmp_path / "w.txt"), 3, 6, 0, "zero")
