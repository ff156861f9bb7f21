"""Counts with their nouns, and values shown in messages."""

import ast
import re
from pathlib import Path

import pytest

from data.wording import LONGEST, counted, numbered, shown

PROJECT = Path(__file__).resolve().parents[2]
NOUNS = "errors|videos|clips|images|epochs|samples|frames|tasks|shards|artifacts|steps|masks|rows|inputs"
COUNTS = re.compile(rf"^ (?:[a-z]+ )?(?:{NOUNS})\b")
PLURAL_ALWAYS = {  # file -> counts that are never 1, or no counts at all
    "pipeline/engine/catalogue.py": {"section.kind"},  # "the a2d files"
    "pipeline/audit/verify.py": {"absent"},  # it needs Python alone, and words one file by itself
    "pipeline/runs/overview.py": {"self.videos_per_second"},  # "1.0 videos/s"
}


@pytest.mark.parametrize(
    ("count", "noun", "plural", "text"),
    [
        (0, "error", None, "0 errors"),
        (1, "error", None, "1 error"),
        (2, "error", None, "2 errors"),
        (1, "process", "processes", "1 process"),
        (3, "process", "processes", "3 processes"),
        (1, "row was", "rows were", "1 row was"),
        (0, "row was", "rows were", "0 rows were"),
    ],
)
def test_one_thing_is_singular(count: int, noun: str, plural: str | None, text: str) -> None:
    assert counted(count, noun, plural) == text


def test_a_word_agrees_with_a_count() -> None:
    assert [numbered(count, "differs", "differ") for count in (0, 1, 2)] == ["differ", "differs", "differ"]
    assert [numbered(count, "pixel") for count in (1.0, 1.5)] == ["pixel", "pixels"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ("a\nb", r"'a\nb'"),
        ("\ud800", r"'\ud800'"),
        ([1, "x"], '[1, "x"]'),
        ([0] * 1000, "a list of 1000 entries"),
        (dict.fromkeys(map(str, range(100))), "an object of 100 entries"),
    ],
)
def test_a_value_is_shown_on_one_line(value: object, text: str) -> None:
    assert shown(value) == text


def test_what_is_long_or_deep_is_shown_shortened() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "a value that is nested too deeply"
    assert len(shown("x" * 10_000)) < LONGEST + 10 and len(shown(10**4000)) < LONGEST + 10
    while deep:  # without this, the destructor recurses
        deep = deep[0]  # type: ignore[assignment]


def messages(path: Path) -> list[ast.JoinedStr]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.JoinedStr)]


@pytest.mark.parametrize(
    "path", sorted(path for path in (PROJECT / "pipeline").rglob("*.py")), ids=lambda path: path.stem
)
def test_no_message_of_the_pipeline_puts_a_count_before_a_plural(path: Path) -> None:
    """A number in an f-string stands before a noun by way of `counted`, which knows what one thing is called."""
    allowed = PLURAL_ALWAYS.get(str(path.relative_to(PROJECT)), set())
    for message in messages(path):
        for value, after in zip(message.values, message.values[1:], strict=False):
            if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant):
                said = ast.unparse(value.value)
                assert not COUNTS.match(str(after.value)) or said in allowed, f"{said}{after.value}"
