"""The strict reader of JSON: equal to Python's where a text is strict, one line where it is not."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import strict_json
from data.strict_json import NotJSON

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.booleans())
@settings(max_examples=200, deadline=None)
def test_what_is_strict_is_read_as_python_reads_it(value: object, escaped: bool) -> None:
    content = json.dumps(value, ensure_ascii=escaped, allow_nan=False).encode()
    assert strict_json.parse(content) == value
    assert strict_json.parse(b"\xef\xbb\xbf" + content) == value


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1] 2", "not JSON"),
        (b'"\xff"', "no UTF-8 at byte 1"),
        ('{"a": 1}'.encode("utf-16"), "no UTF-8"),
        (b'{"a": [1, NaN]}', r"^a\[1\]: NaN; expected a finite number"),
        (b"Infinity", "the document: Infinity"),
        (b"[-Infinity]", r"^\[0\]: -Infinity"),
        (b"[1e999]", r"^\[0\]: '1e999'; expected a finite"),
        (b'[{"a": 1, "b": 2, "a": 3}]', r"^\[0\]: the key 'a' is there twice"),
        (b'{"a": {"b": 1, "b": NaN}}', r"^a: the key 'b' is there twice"),
        (b'{"a": {"b": 1, "b": 2}, "a": 3}', "is there twice"),
        (b'[["\\ud800"]]', r"^\[0\]\[0\]: '\\ud800' holds half of a surrogate pair"),
        (b'{"\\udc00x": 1}', "half of a surrogate pair"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "thousands of digits"),
    ],
)
def test_what_is_not_strict_is_one_line_with_its_place(content: bytes, says: str) -> None:
    with pytest.raises(NotJSON, match=says) as caught:
        strict_json.parse(content)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_whole_surrogate_pairs_and_escaped_backslashes_are_no_halves() -> None:
    assert strict_json.parse(b'["\\ud83d\\ude00", "\\\\ud800"]') == ["\N{GRINNING FACE}", "\\ud800"]


def test_an_object_of_many_keys_is_searched_for_duplicates_in_no_time() -> None:
    keys = ", ".join(f'"{number}": 0' for number in range(200_000))
    started = time.monotonic()
    with pytest.raises(NotJSON, match="'199999' is there twice"):
        strict_json.parse(f'{{{keys}, "199999": 1}}'.encode())
    assert time.monotonic() - started < 10


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        strict_json.read(tmp_path / "none.json")
