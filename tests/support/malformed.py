"""Documents of JSON with one thing wrong in them, and commands called in this process for many of them."""

import contextlib
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from pipeline.cli import main

LIMIT = 10  # seconds, within which a command must say what is wrong
WRONG: tuple[Any, ...] = (
    *(None, True, False, -1, 10**9, 10**30, 0.5, -1e300, "", "x", "high", "\0", "a" * 3000),
    *([], {}, [[]], [None], [0, 0], {"a": 1}),
)
TEXTS = (
    "",
    "nul",
    "[1, 2",
    "[" * 100_000,
    '{"a":' * 50_000,
    "NaN",
    '[{"score": Infinity}]',
    '{"a": 1, "a": 2}',
    '["\\ud800"]',
    f"[{'9' * 6000}]",
    "1e999",
)


@dataclass(frozen=True)
class Said:
    """How a command ended that ran in this process."""

    code: int
    output: str
    errors: str
    seconds: float

    def assert_refused(self) -> None:
        """It ended soon, by one line, with an exit code of an error."""
        assert self.code in (2, 3), (self.output, self.errors)
        assert self.seconds < LIMIT
        lines = [line for line in self.errors.splitlines() if line.startswith("acga: ")]
        assert len(lines) == 1 and len(lines[0]) < 1500 and "Traceback" not in self.errors, self.errors


def called(*arguments: object) -> Said:
    """Run a command in this process; an error that is not meant for users is raised."""
    output, errors, started = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main([str(argument) for argument in arguments])
    return Said(code, output.getvalue(), errors.getvalue(), time.monotonic() - started)


def places(document: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, as the keys and indices on the way to it."""
    if before:
        yield before
    inner = document.items() if isinstance(document, dict) else ()
    for key, value in enumerate(document) if isinstance(document, list) else inner:
        yield from places(value, (*before, key))


def at(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        document = document[key]
    return document


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> tuple[tuple[Any, ...], Any, Any]:
    """A document with one value replaced by a wrong one or deleted: the place, the old value, the document."""
    place = draw(st.sampled_from(sorted(places(document), key=repr)))
    copy = json.loads(json.dumps(document))
    holder, old = at(copy, place[:-1]), at(document, place)
    if draw(st.integers(0, 3)) == 0:
        del holder[place[-1]]
    else:
        holder[place[-1]] = draw(
            st.sampled_from([each for each in WRONG if type(each) is not type(old) or each != old])
        )
    return place, old, copy


def anything() -> st.SearchStrategy[Any]:
    """Any JSON, of any types."""
    leaves = st.sampled_from(WRONG) | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    keys = st.sampled_from(["images", "annotations", "image_id", "segmentation", "size", "counts", "score", "id"])
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=15
    )
