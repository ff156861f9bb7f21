"""Keys: equal for equal meaning, different for different code."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.key import UnresolvedImport, canonical, code_digest, digest, modules_of

PROJECT = Path(__file__).resolve().parents[2]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=12,
)


def test_canonical_json_has_sorted_keys_and_no_blanks() -> None:
    assert canonical({"b": 1, "a": [1.5, "ö"]}) == '{"a":[1.5,"ö"],"b":1}'.encode()


@given(st.dictionaries(st.text(), VALUES))
def test_the_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


@given(VALUES)
def test_what_was_written_and_read_again_has_the_same_digest(value: object) -> None:
    assert digest(json.loads(json.dumps(value))) == digest(value)


def test_a_number_that_json_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


def test_the_code_of_a_recipe_is_its_module_and_all_that_it_imports() -> None:
    modules = modules_of("pipeline.recipes.visual")
    assert {"pipeline", "pipeline.recipes", "models.i3d", "extractors.shards", "pipeline.recipes.job"} <= modules
    assert not modules & {"pipeline.stage", "pipeline.graph", "data.jhmdb", "extractors.frames"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project's packages in a folder of their own."""
    for package in ("data", "extractors", "models", "pipeline"):
        shutil.copytree(PROJECT / package, tmp_path / package)
    return tmp_path


def digest_in(folder: Path, recipe: str) -> str:
    code = f"from pipeline.key import code_digest; print(code_digest({recipe!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


MASKS = "pipeline.recipes.masks:build"


def test_comments_docstrings_and_blank_lines_are_not_code(copy: Path) -> None:
    before = digest_in(copy, MASKS)
    path = copy / "data" / "letterbox.py"
    text = path.read_text()
    assert '"""The frame in the square, bilinear' in text
    path.write_text("# a comment\n\n\n" + text.replace('"""The frame in the square, bilinear', '"""Other words'))
    assert digest_in(copy, MASKS) == before == code_digest(MASKS)


def test_a_changed_number_in_an_imported_module_is_another_code(copy: Path) -> None:
    before, unrelated = digest_in(copy, MASKS), digest_in(copy, "pipeline.recipes.text:build")
    path = copy / "data" / "masks.py"
    path.write_text(path.read_text().replace("SMALL_CELL = 16", "SMALL_CELL = 8"))
    assert digest_in(copy, MASKS) != before
    assert digest_in(copy, "pipeline.recipes.text:build") == unrelated


def test_imports_that_cannot_be_followed_are_refused(copy: Path) -> None:
    path = copy / "data" / "masks.py"
    path.write_text("from data.records import *\n" + path.read_text())
    assert UnresolvedImport.__name__ in digest_in(copy, MASKS)


def test_code_that_changed_since_it_was_read_is_noticed_though_the_first_digest_stays(copy: Path) -> None:
    program = f"""
from pathlib import Path
from pipeline.key import code_digest, current_digest
before = code_digest({MASKS!r})
path = Path("data/masks.py")
path.write_text(path.read_text() + "\\nADDED = 1\\n")
print(before == code_digest({MASKS!r}), before == current_digest({MASKS!r}))
"""
    environment = os.environ | {"PYTHONPATH": str(copy)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
