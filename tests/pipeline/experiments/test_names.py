"""Experiments by name, from any folder; what a config of one's own extends; what was meant by an unknown name."""

import shutil
from pathlib import Path

import pytest
from commands import Acga, Run

from pipeline.config import ConfigError, load
from pipeline.experiments import layers, shipped

PROJECT = Path(__file__).resolve().parents[3]
USAGE = 2


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", list(shipped.experiments()))
def test_a_name_is_the_shipped_file_in_any_folder(elsewhere: Path, name: str) -> None:
    assert load(Path(name), []) == load(PROJECT / "configs" / f"{name}.toml", [])


def test_the_shipped_names_are_the_files_but_for_those_that_are_only_extended() -> None:
    files = {path.stem for path in (PROJECT / "configs").glob("*.toml")}
    assert set(shipped.experiments()) == files - {"base", "small"}


def test_a_file_of_that_name_in_the_working_folder_goes_before_and_a_folder_does_not(elsewhere: Path) -> None:
    (elsewhere / "a2d").write_text('extends = "tiny"\n')
    (elsewhere / "tiny").mkdir()
    assert load(Path("a2d"), []) == load(Path("tiny"), []) != load(PROJECT / "configs" / "a2d.toml", [])


def test_commands_take_names(acga: Acga, finished: Run, tmp_path: Path) -> None:
    planned = acga("plan", "tiny", "--store", finished.store, "--json").document
    assert {entry["run"] for entry in planned["stages"].values()} == {0}
    assert acga("status", "tiny", "--store", finished.store).code == 0
    compared = acga("compare", "tiny", acga.config, "--store", finished.store, "--json").document
    assert set(compared["protocols"]["acga"]) == {"tiny", str(acga.config)}
    assert acga("gc", "tiny", "--store", finished.store).code == 0


def test_a_path_that_begins_with_a_dot_is_no_name(acga: Acga) -> None:
    done = acga("plan", "./tiny")
    assert done.code == USAGE and "cannot be read" in done.errors


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tny", ("config tny: no such file", "did you mean tiny?", "shipped are a2d, ")),
        ("A2D", ("did you mean a2d?",)),
        ("something", ("no shipped experiment of that name; shipped are a2d, ",)),
        ("base", ("no experiment by itself",)),
        ("a2d.toml", ("a2d.toml: cannot be read", "or a2d for the shipped experiment")),
    ],
)
def test_an_unknown_name_gets_one_line_with_the_shipped_ones_and_the_nearest(
    acga: Acga, name: str, words: tuple[str, ...]
) -> None:
    done = acga("plan", name)
    (line,) = done.errors.splitlines()
    assert done.code == USAGE and done.output == ""
    assert all(word in line for word in words), line


def test_a_config_of_ones_own_extends_a_shipped_one_from_any_folder(elsewhere: Path) -> None:
    (elsewhere / "mine.toml").write_text('extends = "tiny"\n[training]\nlr = 0.25\n')
    (elsewhere / "more.toml").write_text('extends = "mine.toml"\n[training]\nbatch = 3\n')
    expected = load(PROJECT / "configs" / "tiny.toml", ["training.lr=0.25", "training.batch=3"])
    assert load(Path("more.toml"), []) == expected


def test_a_config_may_have_the_name_of_the_one_that_it_extends(elsewhere: Path) -> None:
    (elsewhere / "tiny.toml").write_text('extends = "tiny"\n[training]\nlr = 0.25\n')
    assert load(Path("tiny.toml"), []) == load(PROJECT / "configs" / "tiny.toml", ["training.lr=0.25"])


@pytest.mark.parametrize("base", ["tny", "..", ".", "../tiny", "slurm/one", "/etc/passwd", "a\\u0000b", "nowhere"])
def test_what_is_extended_leaves_neither_the_folder_nor_the_shipped_ones(elsewhere: Path, base: str) -> None:
    (elsewhere / "mine.toml").write_text(f'extends = "{base}"\n')
    with pytest.raises(ConfigError, match=r"mine\.toml: extends = .*in \., or that of a shipped config .*: a2d, "):
        load(Path("mine.toml"), [])


def test_a_shipped_name_is_not_taken_for_a_file_with_suffix(elsewhere: Path) -> None:
    (elsewhere / "mine.toml").write_text('extends = "tiny.toml"\n')
    with pytest.raises(ConfigError, match=r"tiny\.toml: cannot be read .* or tiny for the shipped"):
        load(Path("mine.toml"), [])


TINY = PROJECT / "configs" / "tiny.toml"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", r"^--set training\.epoch=3: unknown key training\.epoch; did you mean training\.epochs\?"),
        ("trainig.epochs=3", r"unknown key trainig; did you mean training\?$"),
        ("Training.epochs=3", r"unknown key Training; did you mean training\?$"),
        ("training.widths=[1]", r"unknown key training\.widths; did you mean model\.widths\?$"),
        ("dataset.rot=x", r"unknown key dataset\.rot; did you mean dataset\.root\?$"),
        ("miniature.sizes=64", r"unknown key miniature\.sizes; did you mean miniature\.size\?$"),
        ("test.splits=all", r"unknown key test\.splits; did you mean test\.split\?$"),
        ("datasets.a.root=x", r"unknown key datasets; did you mean dataset\?$"),
        ("training.qqq=x", r"unknown key training\.qqq; remove it or correct its name$"),
    ],
)
def test_an_unknown_key_gets_the_nearest_known_one(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(TINY, [override])


def test_an_unknown_key_of_a_file_is_said_of_that_file(elsewhere: Path) -> None:
    (elsewhere / "below.toml").write_text('extends = "tiny"\n[training]\nepoch = 3\n')
    (elsewhere / "mine.toml").write_text('extends = "below.toml"\n[model]\nseed = 3\n')
    with pytest.raises(ConfigError, match=r"^config below\.toml: unknown key training\.epoch; did you mean"):
        load(Path("mine.toml"), [])
    (elsewhere / "mine.toml").write_text('epochs = 3\nextends = "tiny"\n')
    with pytest.raises(ConfigError, match=r"unknown key epochs; did you mean pretrain\.epochs or training\.epochs\?"):
        load(Path("mine.toml"), [])


def test_a_key_of_one_of_several_data_sets_is_said_as_it_is_written() -> None:
    jhmdb = PROJECT / "configs" / "jhmdb.toml"
    with pytest.raises(ConfigError, match=r"unknown key dataset\.a2d\.shard; did you mean dataset\.shards\?"):
        load(jhmdb, ["dataset.a2d.shard=3"])
    with pytest.raises(ConfigError, match=r"^--set dataset\.jhmdb\.shards=0: dataset\.jhmdb\.shards = 0: .*greater"):
        load(jhmdb, ["dataset.jhmdb.shards=0"])
    with pytest.raises(ConfigError, match=r"^--set dataset\.absent=no: dataset\.absent = 'no': "):
        load(jhmdb, ["dataset.absent=no"])


def test_the_origin_of_a_value_is_the_last_layer_that_has_it(tmp_path: Path) -> None:
    for name in ("tiny", "small", "base"):
        shutil.copy(PROJECT / "configs" / f"{name}.toml", tmp_path)
    (tmp_path / "mine.toml").write_text('extends = "tiny.toml"\n[dataset.exclude]\na = "b"\n[training]\nlr = 0.25\n')
    found = layers.read(tmp_path / "mine.toml", ["training.batch=2", "model.widths=[1, 2, 3]"])
    mine, tiny, small, base = (str(tmp_path / f"{name}.toml") for name in ("mine", "tiny", "small", "base"))
    expected = {
        "dataset.exclude": mine,
        "dataset.exclude.a": mine,
        "dataset.labelled": base,
        "frames.size": tiny,
        "model.channels": small,
        "model.widths": "--set model.widths=[1, 2, 3]",
        "training.batch": "--set training.batch=2",
        "training.lr": mine,
        "training.lr_drop": base,
    }
    assert {key: found.origin(tuple(key.split("."))) for key in expected} == expected
    assert found.origin(("training", "nothing")) is None
    replaced = layers.read(tmp_path / "mine.toml", ["dataset.exclude={ c = 'd' }"])
    assert replaced.values["dataset"]["exclude"] == {"c": "d"}
    assert replaced.origin(("dataset", "exclude")) == "--set dataset.exclude={ c = 'd' }"


def test_a_data_set_that_no_role_names_is_said_to_be_unnamed() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.jhmbd\.kind is missing, .* names jhmbd; they name a2d, jhmdb"):
        load(PROJECT / "configs" / "jhmdb.toml", ["dataset.jhmbd.root=x"])


def test_what_is_no_text_is_refused_in_one_line(acga: Acga) -> None:
    done = acga("plan", "tiny", "--set", "text.vectors=\udcff")
    (line,) = done.errors.splitlines()
    assert done.code == USAGE and "not UTF-8" in line


def test_a_wrong_compute_section_is_said_by_its_own_key() -> None:
    with pytest.raises(ConfigError, match=r"unknown key compute\.thread; did you mean compute\.threads\?"):
        load(TINY, ["training.processes=auto", "compute.thread=3"])


def test_sections_that_are_values_are_refused(elsewhere: Path) -> None:
    (elsewhere / "mine.toml").write_text('train = 3\nextends = "tiny"\n')
    with pytest.raises(ConfigError, match=r"train = 3"):
        load(Path("mine.toml"), [])
    with pytest.raises(ConfigError, match=r"seed is a value, not a section"):
        load(TINY, ["training.seed.more=3"])
