"""`acga audit`: what was done to a store is seen, and what was not done is not."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import PROJECT, Acga, Run
from stores import manifests
from tampering import TAMPERINGS, Case

REAL_CHECKS = {"A", "B", "C", "D", "E", "F", "G", "I", "J"}  # H needs --rebuild


def table() -> dict[str, tuple[list[str], str]]:
    """The docs' table: checks and verdict by what was done."""
    text = (PROJECT / "docs" / "audit.md").read_text()
    (lines,) = re.findall(r"^\| what was done[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", text, flags=re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in lines.splitlines()]
    return {name: (checks.split(", "), verdict) for name, checks, verdict in rows}


def audit(acga: Acga, store: Path, *arguments: object) -> tuple[int, dict[str, Any]]:
    """The exit code and audit.json."""
    done = acga("audit", acga.config, "--store", store, "--json", *arguments)
    assert done.output, done.errors
    return done.code, done.document


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {letter: check["verdict"] for letter, check in document["checks"].items()}


def test_the_docs_name_every_tampering() -> None:
    assert table().keys() == TAMPERINGS.keys()
    assert len(TAMPERINGS) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("name", TAMPERINGS)
def test_what_was_done_is_seen_by_the_check_that_the_docs_say(
    acga: Acga, store: Path, tmp_path: Path, name: str
) -> None:
    checks, verdict = table()[name]
    case = Case(store, tmp_path, acga)
    TAMPERINGS[name](case)
    code, document = audit(case.acga, store, *case.arguments)
    found = verdicts(document)
    for letter in checks:
        assert found[letter] == verdict, document["checks"][letter]
        assert document["checks"][letter]["findings"]
    assert code == (1 if verdict == "FAIL" else 0)
    if verdict != "FAIL":
        assert "FAIL" not in found.values()


Untouched = Callable[[Case], None]


def touched(case: Case) -> None:
    for path in case.store.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))


def moved(case: Case) -> None:
    place = case.folder / "elsewhere" / "archive"
    place.parent.mkdir()
    case.store = case.store.rename(place)


def data_moved(case: Case) -> None:
    shutil.copytree(case.raw, case.folder / "data")
    case.arguments = ("--set", f"dataset.root={case.folder / 'data'}")


def rebuilt_by_one_worker(case: Case) -> None:
    case.store = case.folder / "rebuilt"
    case.acga.run(case.store, "--workers", 1)


def edited_and_reverted(case: Case) -> None:
    case.acga = Acga.copied(case.folder / "project")
    path = case.acga.project / "data" / "letterbox.py"
    text = path.read_text()
    path.write_text(text + "\nANOTHER = 1\n")
    case.acga.run(case.store, "--until", "Masks")
    path.write_text(text)


def cleared(case: Case) -> None:
    for name in ("journal", "logs", "cache", "running"):
        shutil.rmtree(case.store / name, ignore_errors=True)
    (case.store / "catalogue" / "hashes.json").unlink(missing_ok=True)


def shared_with_others(case: Case) -> None:
    case.acga.run(case.store, "--set", "training.lr=0.002")
    case.acga.run(case.store, "--set", "test.split=train", "--until", "Metrics")


def evicted(case: Case) -> None:
    assert case.acga("gc", case.acga.config, "--store", case.store, "--evict", "Frames").code == 0


UNTOUCHED: dict[str, Untouched] = {
    "as it is": lambda case: None,
    "times touched": touched,
    "store moved": moved,
    "data moved": data_moved,
    "built by one worker": rebuilt_by_one_worker,
    "an edit reverted": edited_and_reverted,
    "journals and caches deleted": cleared,
    "other experiments beside it": shared_with_others,
    "frames evicted": evicted,
    "run again": lambda case: case.acga.run(case.store) and None,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNTOUCHED)
def test_nothing_is_alarmed_by_what_changes_nothing(acga: Acga, store: Path, tmp_path: Path, name: str) -> None:
    case = Case(store, tmp_path, acga)
    UNTOUCHED[name](case)
    code, document = audit(case.acga, case.store, *case.arguments)
    assert {letter for letter, verdict in verdicts(document).items() if verdict == "PASS"} == REAL_CHECKS
    assert (code, document["verdict"]) == (0, "INCONCLUSIVE"), "nothing was built again"


@pytest.mark.slow
def test_a_whole_audit_builds_again_and_says_what_it_did_not_look_at(acga: Acga, store: Path, tmp_path: Path) -> None:
    code, document = audit(acga, store, "--rebuild", 1, "--strict", "--to", tmp_path / "audit")
    assert (code, document["verdict"]) == (0, "PASS"), document["checks"]
    rebuilt = document["checks"]["H"]["rebuilt"]
    assert len(rebuilt) == 9 and all(found["equal"] for found in rebuilt.values())
    floor = document["checks"]["H"]["noise_floor"]
    assert floor.keys() == {"batch", "threads", "compute"} and floor["compute"] > max(floor["batch"], floor["threads"])
    (trained,) = (found["steps"] for found in rebuilt.values() if "steps" in found)
    assert trained.keys() == {"epoch 1", "epoch 2"} and min(trained.values()) >= 2
    assert any("only" in text and "steps of epoch 2" in text for text in document["checks"]["H"]["not_checked"])
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert "<svg" in page and page.count("<rect") == 9 and "http" not in page
    assert json.loads((tmp_path / "audit" / "audit.json").read_text()) == document


@pytest.mark.slow
def test_a_whole_second_store_is_built_and_compared(acga: Acga, store: Path) -> None:
    code, document = audit(acga, store, "--full")
    assert code == 0
    assert document["checks"]["H"]["full"] == "equal"


def certificate(acga: Acga, store: Path, *arguments: object) -> Path:
    path = store.with_suffix(".json")
    assert acga("audit", acga.config, "--store", store, "--certificate", path, *arguments).code == 0
    return path


@pytest.mark.slow
def test_two_rebuilds_have_equal_certificates(acga: Acga, finished: Run, tmp_path: Path) -> None:
    acga.run(tmp_path / "second", "--workers", 1)
    shutil.copytree(finished.store, tmp_path / "first")
    one, other = (certificate(acga, tmp_path / name) for name in ("first", "second"))
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_size < 10_000


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["visual.compute=bfloat16", "visual.batch_norm=tensorflow"])
def test_where_two_machines_part_is_named_by_stage_shard_and_clip(
    acga: Acga, finished: Run, store: Path, tmp_path: Path, setting: str
) -> None:
    theirs = shutil.copytree(store, tmp_path / "theirs")
    acga.run(theirs, "--set", setting)
    code, document = audit(acga, store, "--compare", certificate(acga, theirs, "--set", setting))
    parting = document["parts_from_theirs_at"]
    assert code == 1
    assert re.match(r"VisualFeatures train/000 rgb, clip [\w-]+/\d{5} \(\d+ of \d+ clips of it differ\)$", parting)
    assert audit(acga, store, "--compare", certificate(acga, store))[1]["parts_from_theirs_at"] is None


@pytest.fixture(scope="module")
def bundle(acga: Acga, finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the finished store."""
    store = Path(shutil.copytree(finished.store, tmp_path_factory.mktemp("bundle") / "store"))
    folder = store.parent / "bundle"
    assert acga("audit", acga.config, "--store", store, "--bundle", folder).code == 0
    return folder


def verify(bundle: Path, store: Path) -> "subprocess.CompletedProcess[str]":
    """The bundle's own check, in an empty folder, with nothing but Python."""
    command = [sys.executable, "-I", "-S", str(bundle / "verify.py"), str(bundle), str(store)]
    return subprocess.run(command, capture_output=True, text=True, env={}, cwd=store.parent)


def test_a_bundle_is_a_crate_with_everything_but_data(bundle: Path) -> None:
    crate = json.loads((bundle / "ro-crate-metadata.json").read_text())
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert {"config.json", "certificate.json", "audit.json", "verify.py", "manifests/"} <= entities.keys()
    assert entities["#run"]["@type"] == "CreateAction"
    for name, entity in entities.items():
        if entity["@type"] in ("File", "Dataset") and name != "./":
            assert (bundle / name).exists(), name
    assert sum(path.stat().st_size for path in bundle.rglob("*") if "report" not in path.parts) < 300_000
    lines = (bundle / "verify.py").read_text().splitlines()
    assert len(lines) < 200


def test_the_bundles_own_check_needs_python_alone(finished: Run, bundle: Path) -> None:
    done = verify(bundle, finished.store)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "PASS: 20 artifacts"


INTEGRITY = [name for name, (checks, _) in table().items() if set(checks) & {"E", "G"} and "compared" not in name]


@pytest.mark.slow
@pytest.mark.parametrize("name", INTEGRITY)
def test_the_bundles_own_check_sees_what_hurts_integrity(
    acga: Acga, store: Path, bundle: Path, tmp_path: Path, name: str
) -> None:
    TAMPERINGS[name](Case(store, tmp_path, acga))
    done = verify(bundle, store)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr


def test_a_waived_check_is_listed_with_its_reason(acga: Acga, store: Path) -> None:
    TAMPERINGS["a file added"](Case(store, store.parent, acga))
    assert audit(acga, store)[0] == 1
    code, document = audit(acga, store, "--waive", "G=a note of ours")
    assert code == 0
    assert document["checks"]["G"]["verdict"] == "WAIVED"
    assert document["checks"]["J"]["waived"] == {"G": "a note of ours"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--waive", "Z=because"), "no such check"),
        (("--waive", "A"), "CHECK=REASON"),
        (("--rebuild", "some"), "a number of tasks a stage"),
        (("--compare", "README.md"), "is no certificate"),
        (("--bundle", "docs"), "exists; give a folder that does not"),
        (("--bundle", "README.md/bundle"), "README.md: File exists; give another path"),
    ],
)
def test_impossible_requests_are_refused(acga: Acga, finished: Run, arguments: tuple[str, ...], words: str) -> None:
    done = acga("audit", acga.config, "--store", finished.store, *arguments)
    assert done.code == 2
    assert words in done.errors and "Traceback" not in done.errors


@pytest.mark.slow
def test_several_seeds_give_mean_and_spread(acga: Acga, store: Path) -> None:
    document = acga.run(store, "--seeds", 3)
    executed = document["executed"]  # predictions that come out equal are scored once
    assert executed.pop("Metrics", 0) <= 2
    assert executed == {"TrainedModel": 2, "Predictions": 2, "Report": 1}
    for found in document["seeds"].values():
        assert len(found["each"]) == 3
        assert found["mean"] == pytest.approx(sum(found["each"]) / 3)
    assert document["seeds"]["acga"]["each"][0] == document["metrics"]["acga"]["mean_iou"]
    assert "mean IoU over seeds" in Path(document["report"]).read_text()
    contents = {each["content"] for (stage, _), each in manifests(store).items() if stage == "TrainedModel"}
    assert len(contents) == 3
    assert audit(acga, store, "--set", "report.seeds=3")[0] == 0


@pytest.mark.slow
def test_training_in_several_processes_is_not_replayed_in_part(acga: Acga, store: Path) -> None:
    settings = ("--set", "training.processes=2")
    acga.run(store, *settings)
    code, document = audit(acga, store, "--rebuild", 1, *settings)
    assert (code, document["checks"]["H"]["verdict"]) == (0, "INCONCLUSIVE")
    (finding,) = document["checks"]["H"]["findings"]
    assert "TrainedModel" in finding and "2 processes" in finding and "--steps 0" in finding


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_training_whose_record_is_damaged_fails_for_that_and_is_not_replayed(
    acga: Acga, store: Path, damage: str
) -> None:
    (record,) = (store / "TrainedModel").glob("*/attempt-*/training.json")
    if damage == "removed":
        record.unlink()
    else:
        record.write_bytes(record.read_bytes()[:-40])
    code, document = audit(acga, store, "--rebuild", 1)
    found = verdicts(document)
    assert (code, found["G"], found["H"]) == (1, "FAIL", "INCONCLUSIVE"), document["checks"]["H"]
    assert any("training.json" in text for text in document["checks"]["H"]["findings"])
