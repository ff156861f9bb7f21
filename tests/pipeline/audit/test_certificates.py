"""`acga audit --compare` on malformed and changed certificates: refused by one line, or named as different."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import Acga, Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from malformed import TEXTS, anything, called, mutated

many = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def whole(acga: Acga, finished: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The certificate of the finished store."""
    path = tmp_path_factory.mktemp("certificates") / "whole.json"
    to = path.with_name("audit")
    assert acga("audit", acga.config, "--store", finished.store, "--certificate", path, "--to", to).code == 0
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_the_bundles_own_check_says_what_is_no_certificate(acga: Acga, finished: Run, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    to = tmp_path / "audit"
    assert acga("audit", acga.config, "--store", finished.store, "--bundle", bundle, "--to", to).code == 0
    command = [sys.executable, "-I", "-S", str(bundle / "verify.py"), str(bundle), str(finished.store)]
    for content in ("", "[" * 100_000, "{}", '{"stages": []}', '{"stages": {"Frames": null}}'):
        (bundle / "certificate.json").write_text(content)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (1, "")
        assert "certificate.json is no certificate" in done.stdout or "certificate: " in done.stdout


def arguments(acga: Acga, finished: Run, folder: Path, document: Any) -> tuple[Any, ...]:
    path = folder / "theirs.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return "audit", acga.config, "--store", finished.store, "--compare", path, "--to", folder / "audit"


@given(data=st.data())
@many
def test_no_mutated_certificate_is_believed(
    acga: Acga, finished: Run, whole: dict[str, Any], tmp_path: Path, data: st.DataObject
) -> None:
    place, _, document = data.draw(mutated(whole))
    said = called(*arguments(acga, finished, tmp_path, document))
    if said.code == 1:  # a text of digests, though not ours: the audit fails and says where they part
        assert place[-1] in ("clips", "files") and "theirs and ours part at" in said.output
    else:
        said.assert_refused()
        assert "theirs.json" in said.errors


@given(anything())
@many
def test_any_json_is_no_certificate(acga: Acga, finished: Run, tmp_path: Path, document: Any) -> None:
    called(*arguments(acga, finished, tmp_path, document)).assert_refused()


@pytest.mark.parametrize("content", TEXTS, ids=range(len(TEXTS)))
def test_text_that_is_no_strict_json_is_refused(acga: Acga, finished: Run, tmp_path: Path, content: str) -> None:
    said = called(*arguments(acga, finished, tmp_path, content))
    said.assert_refused()
    assert "theirs.json is no certificate" in said.errors


@pytest.mark.parametrize("version", [True, 1.0, "1", None, 2, 10**30])
def test_another_format_is_refused(
    acga: Acga, finished: Run, whole: dict[str, Any], tmp_path: Path, version: Any
) -> None:
    called(*arguments(acga, finished, tmp_path, whole | {"format": version})).assert_refused()


def test_digests_of_clips_that_were_changed_by_hand_are_seen(
    acga: Acga, finished: Run, whole: dict[str, Any], tmp_path: Path
) -> None:
    """The roots do not follow from the digests of the clips, which are cut short; so these are compared as well."""
    document = json.loads(json.dumps(whole))
    label, task = next(iter(document["stages"]["VisualFeatures"]["tasks"].items()))
    task["clips"] = "00000000" + task["clips"][8:]
    done = acga(*arguments(acga, finished, tmp_path, document), "--json")
    assert done.code == 1
    parting = done.document["parts_from_theirs_at"]
    count = len(task["clips"]) // 8
    assert parting.startswith(f"VisualFeatures {label}, clip ") and f"(1 of {count} clip" in parting
