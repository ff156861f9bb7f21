"""Word vectors in files: word2vec's binary format with its index, and lines of text."""

import gzip
import hashlib
import logging
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.text.sentences import word_vectors
from extractors.text.word2vec import MalformedVectors, WrongDimension, file_vectors

DIM = 3
TABLE = {"dog": [1.0, 2.0, 3.0], "the": [0.5, 0.25, 0.125], "Dog": [9.0, 9.0, 9.0], "日本": [-1.0, 0.0, 1.0]}


def binary(table: dict[str, list[float]], feed: bytes = b"\n") -> bytes:
    entries = [word.encode() + b" " + np.array(row, "<f4").tobytes() + feed for word, row in table.items()]
    return f"{len(table)} {DIM}\n".encode() + b"".join(entries)


def text(table: dict[str, list[float]], feed: str = "\n") -> bytes:
    return "".join(f"{word} {' '.join(map(str, row))}{feed}" for word, row in table.items()).encode()


def numbered(path: Path, count: int, dim: int, seed: int = 0) -> np.ndarray:
    """Writes words w0, w1, ... with random vectors, which it returns."""
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype("<f4")
    body = b"".join(f"w{number} ".encode() + vector.tobytes() for number, vector in enumerate(vectors))
    path.write_bytes(f"{count} {dim}\n".encode() + body)
    return vectors


@pytest.mark.parametrize("feed", [b"\n", b""])
def test_words_are_found_by_the_pass_and_again_by_the_index(tmp_path: Path, feed: bytes) -> None:
    path, index = tmp_path / "w.bin", tmp_path / "kept" / "w.index"
    path.write_bytes(binary(TABLE, feed))
    passed = file_vectors(path, {"dog", "日本", "cat"}, DIM, index)
    assert {word: list(row) for word, row in passed.items()} == {"dog": TABLE["dog"], "日本": TABLE["日本"]}
    sought = file_vectors(path, {"the", "dog", "a"}, DIM, index)
    assert {word: list(row) for word, row in sought.items()} == {"the": TABLE["the"], "dog": TABLE["dog"]}
    assert file_vectors(path, set(), DIM, index) == {}
    assert [found.name for found in index.parent.iterdir()] == ["w.index"]


def test_the_index_holds_the_places_of_the_words(tmp_path: Path) -> None:
    path, index = tmp_path / "w.bin", tmp_path / "w.index"
    path.write_bytes(binary({"a": [1, 2, 3], "bc": [4, 5, 6]}))
    file_vectors(path, set(), DIM, index)
    entries = np.frombuffer(index.read_bytes()[-32:], "<u8").reshape(2, 2)
    # "2 3\n" takes 4 bytes; "a", a blank, 12 bytes of values and a line feed take 15
    keys = [int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little") for word in (b"a", b"bc")]
    np.testing.assert_array_equal(entries, np.array([[keys[0], 4], [keys[1], 19]], np.uint64))


def test_a_lookup_by_the_index_reads_only_the_places_of_its_words(tmp_path: Path) -> None:
    path, index = tmp_path / "w.bin", tmp_path / "w.index"
    vectors = numbered(path, 2000, 300)
    file_vectors(path, {"w7"}, 300, index)
    content = bytearray(path.read_bytes())
    place = content.index(b"w1000 ")  # the middle of the file, which neither mark covers
    content[place : place + 6] = b"x1000 "
    path.write_bytes(content)
    assert "x1000" not in file_vectors(path, {"x1000", "w8"}, 300, index)  # a pass would have found it
    np.testing.assert_array_equal(file_vectors(path, {"w8"}, 300, index)["w8"], vectors[8])


def test_an_index_of_several_blocks_finds_every_word(tmp_path: Path) -> None:
    path, index = tmp_path / "w.bin", tmp_path / "w.index"
    vectors = numbered(path, 66_000, 2)  # 1.06 MB of index: two blocks
    wanted = {f"w{number}": number for number in [0, 1, 65_535, 65_536, 65_999]}
    for found in (file_vectors(path, set(wanted), 2, index), file_vectors(path, set(wanted), 2, index)):
        assert found.keys() == wanted.keys()
        for word, number in wanted.items():
            np.testing.assert_array_equal(found[word], vectors[number])


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for count in (1000, 3000):  # 5 and 14 MB, of which one block of 1 MB at a time
        path, index = tmp_path / f"{count}.bin", tmp_path / f"{count}.index"
        numbered(path, count, 1200)
        for _ in range(2):  # the pass, then the index
            tracemalloc.start()
            file_vectors(path, {"w5", "w900"}, 1200, index)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    # buffer, block and their sum, and what is noted for the index: 16 bytes a word, 1 MB at most;
    # a bytearray grows by an eighth ahead, and 10 kB are for the rest
    assert max(peaks) < 5 << 20
    assert abs(peaks[2] - peaks[0]) <= 16 * 2000 * 1.25 + 10_000


def test_a_damaged_index_is_noticed_and_written_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, index = tmp_path / "w.bin", tmp_path / "w.index"
    vectors = numbered(path, 500, 8)
    file_vectors(path, set(), 8, index)
    whole = index.read_bytes()
    flipped = [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (3, 20, 60, 85, 92, 100, 130, len(whole) - 1)
    ]
    for damaged in (*flipped, whole[:-16], whole[:-5], whole[:40], b"", whole + bytes(16), b"no index at all" * 20):
        index.write_bytes(damaged)
        with caplog.at_level(logging.WARNING, "extractors.text.word2vec"):
            found = file_vectors(path, {"w123"}, 8, index)
        np.testing.assert_array_equal(found["w123"], vectors[123])
        assert index.read_bytes() == whole
        assert caplog.messages and "to write it again" in caplog.messages[-1]
        caplog.clear()
    file_vectors(path, {"w123"}, 8, index)
    assert not caplog.messages


def test_the_index_of_other_vectors_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index, one, other = tmp_path / "w.index", tmp_path / "one.bin", tmp_path / "other.bin"
    numbered(one, 50, 8)
    vectors = numbered(other, 50, 8, seed=1)  # as many bytes
    file_vectors(one, {"w7"}, 8, index)
    np.testing.assert_array_equal(file_vectors(other, {"w7"}, 8, index)["w7"], vectors[7])
    assert "the index of other vectors" in caplog.text


def test_an_index_whose_places_are_wrong_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, index = tmp_path / "w.bin", tmp_path / "w.index"
    vectors = numbered(path, 2000, 300)
    file_vectors(path, set(), 300, index)
    content = path.read_bytes()
    one, other = content.index(b"w1000 "), content.index(b"w1001 ")
    path.write_bytes(content[:one] + content[other : 2 * other - one] + content[one:other] + content[2 * other - one :])
    np.testing.assert_array_equal(file_vectors(path, {"w1000"}, 300, index)["w1000"], vectors[1000])
    assert "'w1000' is not at byte" in caplog.text


def test_a_failed_pass_leaves_no_index(tmp_path: Path) -> None:
    path, index = tmp_path / "w.bin", tmp_path / "w.index"
    path.write_bytes(binary(TABLE)[:-8])
    with pytest.raises(MalformedVectors, match="ends after 3 of 4 words"):
        file_vectors(path, {"dog"}, DIM, index)
    assert [found.name for found in tmp_path.iterdir()] == ["w.bin"]
    path.write_bytes(binary(TABLE))
    file_vectors(path, {"dog"}, DIM, index)
    with pytest.raises(WrongDimension, match=r"vectors of 3 values, but text\.dim is 4"):
        file_vectors(path, {"dog"}, 4, index)


@given(
    names=st.lists(st.text(st.characters(exclude_characters=" \n", exclude_categories=["Cs"]), min_size=1), max_size=8),
    others=st.sets(st.text(st.characters(exclude_categories=["Cs"])), max_size=4),
)
def test_index_and_pass_agree_for_any_words(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], others: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("words")
    path, index = folder / "w.bin", folder / "w.index"
    entries = [name.encode() + b" " + np.full(DIM, place, "<f4").tobytes() for place, name in enumerate(names)]
    path.write_bytes(f"{len(names)} {DIM}\n".encode() + b"".join(entries))
    expected = {name: names.index(name) for name in names}  # the first of equal words
    for _ in range(2):
        found = file_vectors(path, {*names, *others}, DIM, index)
        assert {word: row.tolist() for word, row in found.items()} == {
            word: [place] * DIM for word, place in expected.items()
        }


def test_a_header_that_says_too_many_or_too_few_words_is_an_error(tmp_path: Path) -> None:
    path, whole = tmp_path / "w.bin", binary(TABLE)
    path.write_bytes(b"5" + whole[1:])
    with pytest.raises(MalformedVectors, match="ends after 4 of 5 words"):
        file_vectors(path, {"dog"}, DIM, None)
    path.write_bytes(b"3" + whole[1:])
    with pytest.raises(MalformedVectors, match=r"goes on at byte 5\d, after the 3 words of its header"):
        file_vectors(path, {"dog"}, DIM, None)
    path.write_bytes(whole + b"rest")
    with pytest.raises(MalformedVectors, match="after the 4 words of its header"):
        file_vectors(path, {"dog"}, DIM, None)
    path.write_bytes(b"4 3\n" + b"x" * 5000)
    with pytest.raises(MalformedVectors, match="word 1 of 4, at byte 4, does not end within 4096 bytes"):
        file_vectors(path, {"dog"}, DIM, None)
    path.write_bytes(binary(TABLE | {"the": [np.nan, 0, 0]}))
    with pytest.raises(MalformedVectors, match="word 'the': values that are no finite numbers"):
        file_vectors(path, {"the"}, DIM, None)


def test_a_damaged_compressed_file_is_an_error(tmp_path: Path) -> None:
    path, index = tmp_path / "w.bin.gz", tmp_path / "w.index"
    whole = gzip.compress(binary(TABLE))
    path.write_bytes(whole)
    assert file_vectors(path, {"dog"}, DIM, index)["dog"].tolist() == TABLE["dog"]
    assert not index.exists()  # one cannot seek in it
    for damaged in (whole[:-20], b"no gzip", whole[:20] + bytes(10) + whole[30:]):
        path.write_bytes(damaged)
        with pytest.raises(MalformedVectors, match="the compressed file is damaged"):
            file_vectors(path, {"dog"}, DIM, None)


@pytest.mark.parametrize("feed", ["\n", "\r\n"])
@pytest.mark.parametrize("header", [True, False])
def test_lines_of_text_are_read_with_and_without_a_header(tmp_path: Path, feed: str, header: bool) -> None:
    path = tmp_path / "w.vec"
    path.write_bytes(f"{len(TABLE)} {DIM}{feed}".encode() * header + text(TABLE, feed))
    found = file_vectors(path, {"dog", "日本", "cat"}, DIM, None)
    assert {word: list(row) for word, row in found.items()} == {"dog": TABLE["dog"], "日本": TABLE["日本"]}


def test_words_with_blanks_and_odd_signs_break_no_line(tmp_path: Path) -> None:
    path = tmp_path / "w.txt"
    odd = [". .", "dog . .", "at name@domain.com", "\N{NO-BREAK SPACE}", "a\N{LINE SEPARATOR}b", "\x85", "2", "2 x"]
    table = {word: [float(place), 0.5, -1e-3] for place, word in enumerate(odd)} | TABLE
    path.write_bytes(text(table) + b"\xff\xfe 1 2 3\n" + text({"the": [7.0, 7.0, 7.0]}) + b"\n")
    found = file_vectors(path, {"dog", "the", "at", "2"}, DIM, None)
    expected = {"dog": TABLE["dog"], "the": TABLE["the"], "2": [6.0, 0.5, np.float32(-1e-3)]}
    assert {word: list(row) for word, row in found.items()} == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cat 1 2", "line 3: 2 values instead of 3"),
        ("cat", "line 3: 0 values instead of 3"),
        ("dog 1 2 3 4", "line 3: 4 values instead of 3"),
        ("dog 1 2 x", "line 3: could not convert .*'x'"),
        ("dog 1 2 nan", "line 3: values that are no finite float32"),
        ("dog 1 2 1e39", "line 3: values that are no finite float32"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "w.txt"
    path.write_text(f"the 1 2 3\nman 1 2 3\n{line}\n")
    with pytest.raises(MalformedVectors, match=message):
        file_vectors(path, {"dog"}, DIM, None)


def test_a_text_whose_header_is_wrong_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "w.vec"
    path.write_bytes(b"5 3\n" + text(TABLE))
    with pytest.raises(MalformedVectors, match="4 words, but its header says 5"):
        file_vectors(path, {"dog"}, DIM, None)
    path.write_bytes(b"4 2\n" + text(TABLE))
    with pytest.raises(WrongDimension, match=r"vectors of 2 values, but text\.dim is 3"):
        file_vectors(path, {"dog"}, DIM, None)
    for dim in (2, 5):
        path.write_bytes(text({". .": [1.0, 2.0, 3.0]} | TABLE))
        with pytest.raises(WrongDimension, match=rf"vectors of 3 values, but text\.dim is {dim}"):
            file_vectors(path, {"dog"}, dim, None)


def test_sentences_are_looked_up_by_the_index(tmp_path: Path) -> None:
    path, index = tmp_path / "w.bin", tmp_path / "w.index"
    path.write_bytes(binary(TABLE))
    first = word_vectors(["the cat"], str(path), DIM, 4, 0, "zero", index=index)
    again = word_vectors(["a dog of the cat", "Dog"], str(path), DIM, 4, 0, "zero", index=index)
    plain = word_vectors(["a dog of the cat", "Dog"], str(path), DIM, 4, 0, "zero")
    assert index.is_file() and first.missing == ("cat",)
    np.testing.assert_array_equal(again.values, plain.values)
    assert (again.occurrences, again.total_words) == (plain.occurrences, plain.total_words) == ({"a": 1, "of": 1}, 5)
