"""A trained model given as a file: evaluated without training, on whichever data set."""

import json
from pathlib import Path

import pytest
from commands import Acga, Run

from data.miniature import jhmdb_layout
from models.files.checkpoints import load, save_reference


def of_form(form: str, store: Path, folder: Path) -> Path:
    """The finished run's model as a file: ours, or in the format of the authors' code."""
    (path,) = store.glob("TrainedModel/*/attempt-*/model.safetensors")
    if form == "authors":
        trained, path = load(path), folder / "checkpoint.pth.tar"
        save_reference(trained, path, epoch=0)
    return path


@pytest.mark.parametrize("form", ["ours", "authors"])
def test_a_checkpoint_gives_the_scores_of_the_run_that_trained_it(
    acga: Acga, finished: Run, store: Path, tmp_path: Path, form: str
) -> None:
    path = of_form(form, store, tmp_path)
    document = acga.run(store, "--set", f"model.checkpoint={path}", "--set", "visual.weights=checkpoint")
    assert "PretrainedTrunk" not in document["executed"] and document["executed"].keys() >= {"TrainedModel", "Report"}
    assert document["metrics"] == finished.document["metrics"]
    assert "network from a checkpoint" in Path(document["report"]).read_text()


def test_a_checkpoint_of_the_authors_format_is_evaluated_on_jhmdbs_layout(
    acga: Acga, store: Path, tmp_path: Path
) -> None:
    jhmdb_layout.write(tmp_path / "jhmdb", jhmdb_layout.DEFAULT)
    path = of_form("authors", store, tmp_path)
    overrides = (
        f"model.checkpoint={path}",
        "visual.weights=checkpoint",
        "test.dataset=jhmdb",
        "dataset.jhmdb.kind=jhmdb",
        f"dataset.jhmdb.root={tmp_path / 'jhmdb'}",
        "dataset.jhmdb.groups=",
        "dataset.a2d.shards=2",
        "train.dataset=a2d",
    )
    document = acga.run(store, *(part for override in overrides for part in ("--set", override)))
    assert document["metrics"]["acga"]["samples"] == 3 * jhmdb_layout.DEFAULT.clips
    assert "J-HMDB" in Path(document["report"]).read_text()


def test_with_a_checkpoint_the_train_set_is_neither_listed_nor_hashed(
    acga: Acga, store: Path, tmp_path: Path, finished: Run
) -> None:
    jhmdb_layout.write(tmp_path / "jhmdb", jhmdb_layout.DEFAULT)
    (tmp_path / "mine.toml").write_text(
        f"""
        extends = "jhmdb"
        dataset.a2d.root = "/no/such/A2D"
        dataset.jhmdb.root = "{tmp_path / "jhmdb"}"
        dataset.expect = "none"
        """
    )
    whole = acga("config", "tiny", "--json").document["config"]
    small = [
        f"{section}.{key}={json.dumps(whole[section][key])}"
        for section in ("frames", "text", "visual", "model", "training", "metrics", "compute", "report")
        for key in whole[section]
    ]
    given = [f"model.checkpoint={of_form('ours', store, tmp_path)}", "visual.weights=checkpoint"]
    settings = [part for override in (*small, *given) for part in ("--set", override)]
    arguments = (tmp_path / "mine.toml", "--store", tmp_path / "other", "--json")
    checked = acga("check", *arguments, *settings)
    assert (checked.code, checked.document["errors"]) == (0, [])
    assert checked.document["videos"] == jhmdb_layout.DEFAULT.clips
    ran = acga("run", *arguments, *settings)
    assert ran.code == 0, ran.errors
    assert ran.document["metrics"]["acga"]["samples"] == 3 * jhmdb_layout.DEFAULT.clips
    (catalogue,) = (tmp_path / "other" / "catalogue").glob(f"{'?' * 16}.json")
    assert set(json.loads(catalogue.read_bytes())["sets"]) == {"test"}
    assert acga("audit", *arguments, *settings).code == 0
    trained = acga("plan", *arguments, *settings, "--set", "model.checkpoint=", "--set", "visual.weights=seeded")
    assert trained.code == 2 and "/no/such/A2D" in trained.errors
