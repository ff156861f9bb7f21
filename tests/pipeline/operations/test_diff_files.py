"""`acga diff` on malformed JSON in its inputs: one line, and never a traceback, a hang or belief."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import Acga, Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from malformed import TEXTS, anything, called, mutated

many = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FREE = {  # fields of acga.json of which another value may be right: paths, and what RGB on a CPU does not read
    *("path", "trunk", "flow_weights", "seed", "verify", "limit_seconds", "bound", "width", "height", "frames"),
    *("number", "threads", "batch", "device", "kind"),
}


@pytest.fixture(scope="module")
def exported(acga: Acga, finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the finished store."""
    folder = tmp_path_factory.mktemp("malformed") / "export"
    assert acga("export", acga.config, "--store", finished.store, "--to", folder).code == 0
    return folder


@pytest.fixture(scope="module")
def edited(exported: Path) -> Path:
    """A copy of the export, whose JSON the tests write anew."""
    return Path(shutil.copytree(exported, exported.with_name("edited")))


@pytest.fixture(scope="module")
def artifact(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of an artifact of VisualFeatures, whose manifest the tests write anew."""
    folder = next(path for path in (finished.store / "VisualFeatures").iterdir() if (path / "manifest.json").is_file())
    return Path(shutil.copytree(folder, tmp_path_factory.mktemp("store") / "VisualFeatures" / folder.name))


def written(path: Path, document: Any) -> None:
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")


def test_an_export_equals_itself(exported: Path, edited: Path) -> None:
    shutil.copy(exported / "acga.json", edited)
    shutil.copy(exported / ".export.json", edited)
    said = called("diff", edited, exported)
    assert said.code == 0 and "identical" in said.output


@given(data=st.data())
@many
def test_no_mutated_origin_is_believed(exported: Path, edited: Path, data: st.DataObject) -> None:
    place, _, document = data.draw(mutated(json.loads((exported / "acga.json").read_text())))
    written(edited / "acga.json", document)
    said = called("diff", edited, exported)
    if said.code == 0:
        assert place[-1] in FREE, place
    else:
        said.assert_refused()
        assert "acga.json" in said.errors


@given(anything())
@many
def test_any_json_is_no_origin(exported: Path, edited: Path, document: Any) -> None:
    written(edited / "acga.json", document)
    called("diff", edited, exported).assert_refused()


@pytest.mark.parametrize("content", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("name", ["acga.json", ".export.json"])
def test_text_that_is_no_strict_json_is_refused(exported: Path, edited: Path, name: str, content: str) -> None:
    for each in ("acga.json", ".export.json"):
        shutil.copy(exported / each, edited)
    written(edited / name, content)
    said = called("diff", edited, exported)
    said.assert_refused()
    assert name in said.errors


@pytest.mark.parametrize("ends", [None, "true", 0, 1, [], ...])
def test_a_mark_of_an_export_that_says_nothing_is_refused(exported: Path, edited: Path, ends: Any) -> None:
    shutil.copy(exported / "acga.json", edited)
    mark = json.loads((exported / ".export.json").read_text()) | {"finished": ends}
    written(edited / ".export.json", {key: value for key, value in mark.items() if value is not ...})
    said = called("diff", edited, exported)
    said.assert_refused()
    assert "expected the mark of an export" in said.errors
    written(edited / ".export.json", mark | {"finished": False})
    assert "stopped after" in called("diff", edited, exported).errors
    shutil.copy(exported / ".export.json", edited)


def test_the_command_itself_says_one_line(acga: Acga, exported: Path, edited: Path) -> None:
    document = json.loads((exported / "acga.json").read_text())
    for change, words in (
        ({"sets": None}, "sets is null"),
        ({"rows": {}}, "names 0 rows of train"),
        ({"rows": document["rows"] | {"test": ["x"]}}, "row 0 of test is of clip 'x'"),
        ({"sections": document["sections"] | {"frames": {}}}, "sections.frames.size is missing"),
    ):
        written(edited / "acga.json", document | change)
        done = acga("diff", edited, exported)
        (line,) = done.errors.splitlines()
        assert done.code in (2, 3) and words in line and "acga.json" in line
    shutil.copy(exported / "acga.json", edited)


@given(data=st.data())
@many
def test_no_mutated_manifest_is_believed(finished: Run, artifact: Path, data: st.DataObject) -> None:
    original = json.loads((finished.store / "VisualFeatures" / artifact.name / "manifest.json").read_text())
    *_, document = data.draw(mutated(original))
    written(artifact / "manifest.json", document)
    called("diff", artifact, artifact).assert_refused()


@pytest.mark.parametrize("content", TEXTS, ids=range(len(TEXTS)))
def test_a_manifest_that_is_no_json_is_refused(artifact: Path, content: str) -> None:
    written(artifact / "manifest.json", content)
    called("diff", artifact, artifact).assert_refused()


def test_an_artifact_without_its_catalogue_is_compared_and_not_explained(finished: Run, artifact: Path) -> None:
    shutil.copy(finished.store / "VisualFeatures" / artifact.name / "manifest.json", artifact)
    assert called("diff", artifact, artifact).code == 0
