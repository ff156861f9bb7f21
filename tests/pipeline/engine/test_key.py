"""Keys: equal for equal meaning, different for different code."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import EVERYTHING

from pipeline.config import load
from pipeline.engine.key import code_digest, modules_of
from pipeline.engine.syntax import UnresolvedImport
from pipeline.graph import STAGES
from pipeline.runs import run
from pipeline.store.canonical_json import canonical, digest

PROJECT = Path(__file__).resolve().parents[3]
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
    modules = modules_of("pipeline.stages.features.visual")
    assert {
        "pipeline",
        "pipeline.stages",
        "models.backbones.i3d",
        "extractors.shards.shard",
        "pipeline.stages.support.job",
    } <= modules
    assert not modules & {"pipeline.engine.stage", "pipeline.graph", "data.readers.jhmdb", "extractors.video.decoder"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project's packages in a folder of their own."""
    for package in ("data", "extractors", "models", "pipeline"):
        shutil.copytree(PROJECT / package, tmp_path / package)
    return tmp_path


def digest_in(folder: Path, recipe: str) -> str:
    code = f"from pipeline.engine.key import code_digest; print(code_digest({recipe!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


MASKS = "pipeline.stages.dataset.masks"


def test_comments_docstrings_and_blank_lines_are_not_code(copy: Path) -> None:
    before = digest_in(copy, MASKS)
    path = copy / "data" / "letterbox.py"
    text = path.read_text()
    assert text.startswith('"""Letterboxing')
    path.write_text("# a comment\n\n\n" + text.replace('"""Letterboxing', '"""Other words'))
    assert digest_in(copy, MASKS) == before == code_digest(MASKS)


def test_a_changed_number_in_an_imported_module_is_another_code(copy: Path) -> None:
    before, unrelated = digest_in(copy, MASKS), digest_in(copy, "pipeline.stages.features.text")
    path = copy / "data" / "masks.py"
    path.write_text(path.read_text().replace("SMALL_CELL = 16", "SMALL_CELL = 8"))
    assert digest_in(copy, MASKS) != before
    assert digest_in(copy, "pipeline.stages.features.text") == unrelated


def test_imports_that_cannot_be_followed_are_refused(copy: Path) -> None:
    path = copy / "data" / "masks.py"
    path.write_text("from data.records import *\n" + path.read_text())
    assert UnresolvedImport.__name__ in digest_in(copy, MASKS)


def test_code_that_changed_since_it_was_read_is_noticed_though_the_first_digest_stays(copy: Path) -> None:
    program = f"""
from pathlib import Path
from pipeline.engine.key import code_digest, current_digest
before = code_digest({MASKS!r})
path = Path("data/masks.py")
path.write_text(path.read_text() + "\\nADDED = 1\\n")
print(before == code_digest({MASKS!r}), before == current_digest({MASKS!r}))
"""
    environment = os.environ | {"PYTHONPATH": str(copy)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


TINY = PROJECT / "configs" / "tiny.toml"


def sections(path: Path) -> dict[str, Any]:
    """The tables of a config of one data set, with all that it extends."""
    values = load(path, []).model_dump()
    (dataset,) = values.pop("datasets").values()
    return {name: table for name, table in {"dataset": dataset, **values}.items() if table is not None}


SECTIONS = sections(TINY)


def keys(table: dict[str, Any], store: Path) -> dict[tuple[str, str], str]:
    """The keys of all tasks of a config of which everything is there, by stage and label."""
    path = store.parent / "config.toml"
    path.write_text(written(table))
    roots = run.asked(load(path, []), store, "Report")
    return {(task.stage, task.label): place.key for task in run.all_tasks(roots) if (place := task.artifact())}


def written(table: dict[str, Any]) -> str:
    """A config as TOML, in the order of the table."""
    lines = []
    for section, values in table.items():
        lines.append(f"[{section}]")
        lines += [
            f"{key} = {value if isinstance(value, Literally) else json.dumps(value)}" for key, value in values.items()
        ]
    return "\n".join(lines).replace("{}", "{ }") + "\n"


class Literally(str):
    """A value as it stands in the file."""


def forms(value: float) -> list[Literally]:
    """Some of the ways to write a float."""
    shortest = repr(value)
    long = f"{value:.12f}"
    return [
        Literally(each)
        for each in (shortest, long, f"{value:.17e}", f"+{shortest}", f"{value:e}")
        if float(each) == value
    ]


@pytest.fixture(scope="module")
def known(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, str], str]]:
    """A finished store, which is only read, and the keys of tiny there."""
    store = Path(shutil.copytree(finished.store, tmp_path_factory.mktemp("keys") / "store"))
    return store, keys(SECTIONS, store)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_order_and_spelling_of_a_config_do_not_enter_the_keys(
    data: st.DataObject, known: tuple[Path, dict[tuple[str, str], str]]
) -> None:
    store, expected = known
    names = data.draw(st.permutations(sorted(SECTIONS)))
    table = {}
    for name in names:
        values = {key: SECTIONS[name][key] for key in data.draw(st.permutations(sorted(SECTIONS[name])))}
        floats = {
            key: data.draw(st.sampled_from(forms(value))) for key, value in values.items() if isinstance(value, float)
        }
        table[name] = values | floats
    assert keys(table, store) == expected
    assert len(expected) == sum(EVERYTHING.values())


UNREAD = {
    "flow": ("bound", [5.0, 12.5]),
    "pretrain": ("epochs", [2, 7]),
    "report": ("samples", [1, 9]),
    "metrics": ("resamples", [150, 200]),
    "prediction": ("batch", [1, 3]),
    "training": ("lr", [1e-3, 0.5]),
    "model": ("seed", [1, 2]),
    "text": ("seed", [1, 2]),
    "visual": ("seed", [1, 2]),
    "masks": ("threshold", [0.25, 0.75]),
}
"""Of some sections a key, and other values for it."""


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_section_that_neither_a_stage_nor_its_inputs_read_does_not_enter_its_key(
    data: st.DataObject, known: tuple[Path, dict[tuple[str, str], str]]
) -> None:
    store, expected = known
    changed = data.draw(st.sets(st.sampled_from(sorted(UNREAD)), min_size=1, max_size=4))
    values = {name: SECTIONS[name] | {UNREAD[name][0]: data.draw(st.sampled_from(UNREAD[name][1]))} for name in changed}
    found = keys(SECTIONS | values, store)
    stages = {stage.__name__: stage for stage in STAGES}
    for (name, label), key in expected.items():
        stage = stages[name]
        if any(section in stage.reads or f"{section}.{UNREAD[section][0]}" in stage.reads for section in changed):
            assert found.get((name, label)) != key, "what a stage reads enters its key"
        elif not stage.needs() & changed:
            assert found[name, label] == key


@given(st.text(), st.text())
def test_names_are_told_apart_as_they_are_spelled(one: str, other: str) -> None:
    assert (digest({"id": one}) == digest({"id": other})) == (one == other)


def test_unicode_names_are_neither_normalised_nor_escaped() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert digest([composed]) != digest([decomposed])
    assert canonical([composed]) == b'["caf\xc3\xa9"]'


POISONED = """
import hashlib, json, sys
from pathlib import Path
from pipeline.engine import key
true = key.code_digest("data.miniature.a2d_layout")
(path,) = Path(sys.argv[1]).glob("acga/code-*.json")
known = json.loads(path.read_bytes().partition(b"\\n")[2])
for entry in known.values():
    entry[4] = "0" * 64
content = json.dumps(known).encode()
path.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\\n" + content)
key._cache.cache_clear()
key.code_digest.cache_clear()
cached = key.code_digest("data.miniature.a2d_layout")
key.read_afresh()
print(cached == true, key.code_digest("data.miniature.a2d_layout") == true)
"""


def test_what_was_read_is_cached_and_an_audit_believes_the_code_alone(copy: Path, tmp_path: Path) -> None:
    old = (1_700_000_000, 1_700_000_000)
    for path in copy.rglob("*.py"):
        os.utime(path, old)
    time.sleep(2.1)  # files that changed a moment ago are not cached
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", POISONED, str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_without_a_folder_for_the_cache_code_is_read_each_time(copy: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": "/proc/nowhere"}
    program = "from pipeline.engine.key import code_digest; print(code_digest('data.miniature.a2d_layout'))"
    done = subprocess.run([sys.executable, "-c", program], cwd=copy, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == code_digest("data.miniature.a2d_layout"), done.stderr
