"""`acga adopt`: code that changed and results that did not."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import Acga, Run
from stores import data_files, manifests


@pytest.fixture
def copy(tmp_path: Path) -> Acga:
    """The command of a copy of the project."""
    return Acga.copied(tmp_path / "project")


def edit(copy: Acga, module: str, old: str, new: str) -> None:
    """Change the code of the copy; what is replaced must be there."""
    path = copy.project / module
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def adopt(copy: Acga, store: Path, stage: str, *arguments: object) -> Any:
    return copy("adopt", stage, copy.config, "--store", store, "--json", *arguments)


def refactor(copy: Acga) -> None:
    """Other code of Masks and what follows, the same results."""
    edit(copy, "data/masks.py", "SMALL_CELL = 16", "SMALL_CELL = 4 * 4")


@pytest.mark.slow
def test_a_refactoring_is_adopted_after_a_sample_came_out_equal(copy: Acga, finished: Run, store: Path) -> None:
    refactor(copy)
    planned = copy("plan", copy.config, "--store", store, "--json").document["stages"]
    assert planned["Masks"]["run"] == 4
    done = adopt(copy, store, "Masks", "--sample", 1, "--seed", 3)
    assert done.code == 0, done.errors
    document = done.document
    assert document["equal"] and len(document["compared"]) == 1 and len(document["adopted"]) == 3
    adopted = [each for each in manifests(store).values() if "adopted" in each]
    assert sorted(each["label"] for each in adopted) == sorted(document["adopted"])
    for manifest in adopted:
        evidence = manifest["adopted"]
        (sample,) = evidence["sample"]
        assert sample[0] == document["compared"][0] and len(sample) == 3
        assert evidence["modules"] == ["data.masks"] and (evidence["of"], evidence["seed"]) == (4, 3)
        assert evidence["code"]["new"] == manifest["ingredients"]["code"] != evidence["code"]["old"]
        old = manifests(store)["Masks", evidence["from"]]
        assert (old["content"], old["files"]) == (manifest["content"], manifest["files"])
        assert evidence["at"] and evidence["host"]
    planned = copy("plan", copy.config, "--store", store, "--json").document["stages"]
    assert planned["Masks"]["reuse"] == 4
    assert planned["VisualFeatures"]["reuse"] == 4
    assert copy.run(store)["executed"].keys() & {"Masks", "Frames", "VisualFeatures"} == set()
    assert copy("gc", copy.config, "--store", store, "--delete").code == 0
    assert copy.run(store)["executed"] == {}, "the adopted files are not those of the deleted artifacts"
    assert sorted(data_files(store).values()) == sorted(data_files(finished.store).values())


def test_where_results_changed_nothing_is_adopted_and_the_first_difference_shown(copy: Acga, store: Path) -> None:
    edit(copy, "data/masks.py", "pixels >= threshold * cell**2", "pixels > 0 * threshold")
    done = adopt(copy, store, "Masks", "--sample", 2)
    assert done.code == 1, done.errors
    document = done.document
    assert not document["equal"] and document["adopted"] == []
    assert document["difference"].startswith(f"Masks {document['compared'][0]}: masks.h5, row ")
    assert "medium differs in " in document["difference"] and document["difference"].endswith(", by at most 1")
    assert not [each for each in manifests(store).values() if "adopted" in each]


def test_a_stage_whose_inputs_changed_too_says_which_to_adopt_first(copy: Acga, store: Path) -> None:
    edit(copy, "data/masks.py", "SMALL_CELL = 16", "SMALL_CELL = 4 * 4")
    shutil.rmtree(store / "Frames")
    done = adopt(copy, store, "VisualFeatures")
    assert done.code == 2
    assert "adopt, or run, Frames first" in done.errors


def test_there_must_be_something_to_adopt(acga: Acga, copy: Acga, store: Path, tmp_path: Path) -> None:
    done = adopt(acga, store, "Masks")
    assert done.code == 2 and "nothing to adopt" in done.errors
    refactor(copy)
    done = adopt(copy, store, "Masks", "--set", "masks.threshold=0.4")
    assert done.code == 2 and "differs in its code alone" in done.errors
    done = adopt(copy, store, "Flow")
    assert done.code == 2 and "no part of this experiment" in done.errors


@pytest.mark.slow
def test_an_adoption_that_was_wrong_is_found_by_a_rebuild_and_can_be_undone(copy: Acga, store: Path) -> None:
    (wrong,) = (
        each for (stage, _), each in manifests(store).items() if (stage, each["label"]) == ("Masks", "train/000")
    )
    video = sorted(wrong["units"])[0]
    call = "_masks(truth[clip], instance, size, threshold)"
    edit(
        copy,
        "pipeline/stages/dataset/masks.py",
        call,
        call.replace("ld)", f"ld * (0.1 if clip.startswith({video!r}) else 1))"),
    )
    done = adopt(copy, store, "Masks", "--sample", 1, "--seed", 1)
    assert done.code == 0 and done.document["compared"] != ["train/000"], "the sample was unlucky"
    assert copy("gc", copy.config, "--store", store, "--evict", "Masks").code == 0
    done = copy("run", copy.config, "--store", store, "--until", "Masks")
    assert done.code == 3
    assert "Masks" in done.errors and "acga adopt --revoke" in done.errors
    revoked = adopt(copy, store, "Masks", "--revoke").document["revoked"]
    assert "train/000" in revoked
    assert copy.run(store, "--until", "Masks")["executed"]["Masks"] == len(revoked)
    contents = {each["content"] for (stage, _), each in manifests(store).items() if stage == "Masks"}
    assert len(contents) == 5, "four shards, and one of them in two forms"
