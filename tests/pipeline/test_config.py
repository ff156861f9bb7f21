"""Configs: every key checked before anything runs."""

from pathlib import Path

import pytest
from commands import Acga

from extractors.cores import usable_cores
from pipeline.config import Config, ConfigError, load, parse_sections

PROJECT = Path(__file__).resolve().parents[2]
TINY = PROJECT / "configs" / "tiny.toml"
BASES = ("base", "small")  # what others extend; no experiments
ALL = sorted(path for path in (PROJECT / "configs").glob("*.toml") if path.stem not in BASES)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_every_config_that_we_ship_loads(path: Path) -> None:
    assert isinstance(load(path, []), Config)


def test_an_override_is_written_as_in_toml_and_strings_also_bare() -> None:
    config = load(TINY, ["training.lr=0.25", "dataset.root=/some/where", "model.widths=[1, 2, 3]"])
    assert config.training.lr == 0.25
    assert config.datasets["miniature"].root == "/some/where"
    assert config.model.widths == [1, 2, 3]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rate=1", r"unknown key training\.learning_rate"),
        ("trainig.lr=1", r"unknown key trainig"),
        ("training.lr=0", r"training\.lr = 0: .*greater than 0"),
        ("training.lr=fast", r"training\.lr = 'fast'"),
        ("training.epochs=1.5", r"training\.epochs = 1\.5"),
        ("frames.size=100", r"frames\.size = 100: .*multiple of 16"),
        ("visual.batch_norm=torch", r"visual\.batch_norm = 'torch': .*'reference' or 'tensorflow'"),
        ("compute.device=gpu", r"compute\.device = 'gpu'"),
        ("visual.weights=checkpoint", r"model\.checkpoint, which is empty"),
        ("lr=1", r"expected section\.key=value"),
        ("training.lr", r"expected section\.key=value"),
    ],
)
def test_a_wrong_override_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(TINY, [override])


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    Acga().copy_config(tmp_path)
    base = tmp_path / "base.toml"
    base.write_text(base.read_text().replace("lr_drop = 0.1", ""))
    with pytest.raises(ConfigError, match=r"key training\.lr_drop is missing"):
        load(tmp_path / TINY.name, [])


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[train")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(path, [])
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.toml", [])


TWO = ["train.dataset=a", "test.dataset=b", "dataset.a.shards=5", "dataset.b.root=y", "dataset.b.kind=jhmdb"]


def test_train_and_test_sets_are_named_apart_and_share_what_they_do_not_say() -> None:
    config = load(TINY, TWO)
    assert (config.datasets["a"].kind, config.datasets["b"].kind) == ("a2d", "jhmdb")
    assert (config.datasets["a"].shards, config.datasets["b"].shards) == (5, 2)


def test_a_shared_key_that_every_data_set_overrides_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.root has no effect here"):
        load(TINY, [*TWO, "dataset.a.root=x", "dataset.root=z"])


def test_sections_travel_as_json_and_come_back_equal() -> None:
    config = load(TINY, [])
    compact = config.subset(["training", "frames"])
    assert parse_sections(compact) == {
        "frames": config.frames.model_dump(),
        "training": config.training.model_dump(),
    }


def test_processes_auto_is_every_slot_of_the_host_and_enters_the_config_as_a_number() -> None:
    assert load(TINY, ["training.processes=auto"]).training.processes == usable_cores()
    assert load(TINY, ["training.processes=auto", "compute.threads=1000"]).training.processes == 1
    with pytest.raises(ConfigError, match="no CUDA devices"):
        load(TINY, ["training.processes=auto", "compute.device=cuda"])
    with pytest.raises(ConfigError, match=r"training\.processes = 'many'"):
        load(TINY, ["training.processes=many"])
