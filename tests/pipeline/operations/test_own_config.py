"""`acga configs`, `acga init` and `acga config`: experiments of one's own."""

import tomllib
from pathlib import Path

import pytest
from commands import Acga

from pipeline.config import load
from pipeline.experiments import shipped

PROJECT = Path(__file__).resolve().parents[3]
USAGE = 2


def test_each_shipped_experiment_says_what_it_claims_costs_and_needs(acga: Acga) -> None:
    rows = acga("configs", "--json").document["configs"]
    assert [row["name"] for row in rows] == list(shipped.experiments())
    for row in rows:
        assert row["claim"] and row["needs"], row
        assert row["cost"].startswith(("measured on ", "never measured here")), row
        assert Path(row["path"]).read_text().startswith(f"# {row['claim'].split('. ')[0][:40]}")
    said = acga("configs").output
    assert all(f"{row['name']}: {row['claim']}\n" in said and f"    cost: {row['cost']}\n" in said for row in rows)


def test_the_last_rung_of_the_ablations_names_both_published_scores(acga: Acga) -> None:
    published = {row["name"]: row["published"] for row in acga("configs", "--json").document["configs"]}
    rungs = {"ablation_fcn": "20.6", "ablation_fcn_fusion": "23.1", "ablation_fcn_fusion_weight": "25.5"}
    for name, score in rungs.items():
        assert published[name].startswith(f"the paper, mAP {score}.")
    paper, _, readme = published["a2d"].partition("README")
    assert "mean IoU 49.0, overall IoU 60.1, mAP 27.4" in paper
    assert "mean IoU 49.8, overall IoU 61.3, mAP 28.5" in readme


@pytest.mark.parametrize("name", list(shipped.experiments()))
def test_a_written_config_is_the_shipped_one_with_keys_to_fill_in(acga: Acga, tmp_path: Path, name: str) -> None:
    path = tmp_path / "my.toml"
    done = acga("init", path, "--from", name, "--json")
    assert (done.code, done.document) == (0, {"config": str(path), "extends": name})
    table = tomllib.loads(path.read_text())
    assert table.pop("extends") == name and {"model", "compute"} <= set(table)
    assert load(path, []) == load(Path(name), [])
    keys = [line for line in path.read_text().splitlines() if " = " in line and not line.startswith(("#", "extends"))]
    assert keys and all("  # " in line for line in keys)


def test_what_a_written_config_asks_for_is_what_the_experiment_needs(acga: Acga, tmp_path: Path) -> None:
    acga("init", tmp_path / "my.toml", "--from", "jhmdb")
    table = tomllib.loads((tmp_path / "my.toml").read_text())
    assert table == {
        "extends": "jhmdb",
        "dataset": {"a2d": {"root": "A2D"}, "jhmdb": {"root": "JHMDB"}},
        "text": {"vectors": "GoogleNews-vectors-negative300.bin"},
        "visual": {"weights": "model_rgb.pth"},
        "model": {"checkpoint": ""},
        "compute": {"device": "cuda"},
    }


def test_a_plan_of_a_written_config_says_which_path_is_missing(acga: Acga, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    acga("init", path, "--from", "a2d")
    for key, value in (("text.vectors", "hash"), ("visual.weights", "seeded"), ("dataset.root", "")):
        done = acga("plan", path, "--store", tmp_path / "store")
        (line,) = done.errors.splitlines()
        assert done.code == USAGE and line.startswith(f"acga: {key} = ") and "no such" in line
        before = load(path, []).datasets["a2d"].root if key == "dataset.root" else load(path, []).files[key]
        path.write_text(path.read_text().replace(f'"{before}"', f'"{value}"', 1))


@pytest.mark.parametrize(
    ("file", "name", "words"),
    [
        ("there.toml", "a2d", ("exists and is not overwritten",)),
        ("my.toml", "a3d", ("config a3d", "did you mean a2d?")),
        ("my.toml", "base", ("no experiment by itself",)),
        ("my.toml", "/etc/passwd", ("no shipped experiment of that name",)),
        ("my.txt", "a2d", ("ends in .toml",)),
        ("none/my.toml", "a2d", ("cannot be written", "No such file")),
    ],
)
def test_what_init_refuses_leaves_everything_as_it_is(
    acga: Acga, tmp_path: Path, file: str, name: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "there.toml").write_text("mine")
    done = acga("init", tmp_path / file, "--from", name)
    (line,) = done.errors.splitlines()
    assert done.code == USAGE and all(word in line for word in words), line
    assert [path.name for path in tmp_path.iterdir()] == ["there.toml"]
    assert (tmp_path / "there.toml").read_text() == "mine"


@pytest.mark.parametrize("name", list(shipped.experiments()))
def test_the_printed_values_are_the_same_config_by_themselves(acga: Acga, tmp_path: Path, name: str) -> None:
    settings = ("--set", "dataset.max_failures=3", "--set", 'text.vectors=a "b" \\ é \u007f 😀')
    done = acga("config", name, *settings)
    assert done.code == 0, done.errors
    (tmp_path / "whole.toml").write_text(done.output)
    assert load(tmp_path / "whole.toml", []) == load(Path(name), settings[1::2])
    assert "# --set dataset.max_failures=3\n" in done.output


def test_each_printed_value_says_where_it_comes_from(acga: Acga, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text('extends = "tiny"\n[training]\nepochs = 3\n[dataset.exclude]\n"-x.y" = "why"\n')
    document = acga("config", path, "--set", "training.lr=0.5", "--json").document
    of = document["from"]
    shipped_files = shipped.files()
    assert of["training.epochs"] == of["dataset.exclude"] == str(path)
    assert of["training.lr"] == "--set training.lr=0.5"
    assert of["frames.size"] == str(shipped_files["tiny"])
    assert of["training.batch"] == str(shipped_files["small"])
    assert of["training.lr_drop"] == str(shipped_files["base"])
    assert document["config"]["training"]["epochs"] == 3 and document["config"]["dataset"]["exclude"] == {"-x.y": "why"}
    assert set(of) == {f"{table}.{key}" for table, values in document["config"].items() for key in values}
    said = acga("config", path).output
    assert 'exclude = { "-x.y" = "why" }' in said and "# tiny (shipped)\n" in said
    assert tomllib.loads(said)["dataset"]["exclude"] == {"-x.y": "why"}


def test_config_refuses_what_run_refuses(acga: Acga) -> None:
    done = acga("config", "tiny", "--set", "training.epoch=3")
    assert done.code == USAGE and "did you mean training.epochs?" in done.errors
