"""Training through the real command: several processes, every option, curves; and the configs of the ablations."""

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from commands import PROJECT, Acga, Run
from stores import SINGLE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.config import ConfigError, load

CONFIGS = PROJECT / "configs"


def training(document: dict[str, Any]) -> dict[str, Any]:
    """What a run's training left behind."""
    (folder,) = map(Path, document["artifacts"]["TrainedModel"])
    attempt = json.loads((folder / "manifest.json").read_bytes())["attempt"]
    return json.loads((folder / attempt / "training.json").read_bytes())


def curves(store: Path, document: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of what TensorBoard shows of a run's training."""
    (folder,) = map(Path, document["artifacts"]["TrainedModel"])
    events = EventAccumulator(str(store / "logs" / f"TrainedModel-{folder.name}"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def overridden(*overrides: str) -> tuple[str, ...]:
    return tuple(part for override in overrides for part in ("--set", override))


def assert_curves_are_the_losses(store: Path, document: dict[str, Any]) -> None:
    """TensorBoard holds what training.json does, in single precision."""
    epochs = training(document)["epochs"]
    for name in ("small", "medium", "large", "total", "validation"):
        told = [(step, value[name]) for step, value in enumerate(epochs) if value[name] is not None]
        found = curves(store, document).get(name, [])
        assert [step for step, _ in found] == [step for step, _ in told]
        assert [value for _, value in found] == pytest.approx([value for _, value in told], rel=1e-6)


def test_the_losses_lie_beside_the_store_for_tensorboard(finished: Run) -> None:
    epochs = training(finished.document)["epochs"]
    assert len(epochs) == 2
    assert all(loss["total"] == loss["small"] + loss["medium"] + loss["large"] for loss in epochs)
    assert all(loss["validation"] is None for loss in epochs)
    assert_curves_are_the_losses(finished.store, finished.document)
    assert curves(finished.store, finished.document)["lr"] == [(0, pytest.approx(5e-4)), (1, pytest.approx(5e-4))]


@pytest.mark.slow
def test_two_processes_that_share_each_batch_have_the_losses_of_one(acga: Acga, finished: Run, store: Path) -> None:
    document = acga.run(store, *overridden("training.processes=2"))
    assert document["executed"].items() >= {"TrainedModel": 1}.items()
    assert document["executed"].keys() <= SINGLE.keys()
    alone, together = training(finished.document)["epochs"], training(document)["epochs"]
    assert len(together) == len(alone)
    for one, two in zip(alone, together, strict=True):
        for name in ("small", "medium", "large", "total"):
            assert two[name] == pytest.approx(one[name], abs=1e-4)
    assert_curves_are_the_losses(store, document)


EVERY_OPTION = overridden(
    "text.mirrored=true",
    "training.flip=true",
    "training.accumulate=2",
    "training.gradient_norm=0.5",
    "training.validation=0.3",
    "training.patience=1",
    "training.lr=0.05",
    "training.lr_drop_every=2",
    "training.epochs=8",
)


@pytest.mark.slow
def test_every_option_of_training_runs_and_it_stops_where_the_held_out_videos_say(acga: Acga, store: Path) -> None:
    document = acga.run(store, *EVERY_OPTION)
    assert document["executed"] == {"TextFeatures": 2} | SINGLE
    epochs = training(document)["epochs"]
    held_out = [epoch["validation"] for epoch in epochs]
    assert all(isinstance(loss, float) for loss in held_out)
    best = held_out.index(min(held_out))
    assert len(epochs) == min(8, best + 2), "one epoch without improvement ends it"
    assert_curves_are_the_losses(store, document)
    rates = [rate for _, rate in curves(store, document)["lr"]]
    assert rates == pytest.approx([0.05 * 0.1 ** (epoch // 2) for epoch in range(len(epochs))], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("fcn", {"model.fusion": False, "model.attention": False, "training.foreground_weight": 1.0}),
        ("fcn_fusion", {"model.attention": False, "training.foreground_weight": 1.0}),
        ("fcn_fusion_weight", {"model.attention": False}),
    ],
)
def test_an_ablation_is_the_whole_but_for_what_it_says(name: str, changes: dict[str, object]) -> None:
    whole, ablation = (load(CONFIGS / f"{file}.toml", []).model_dump() for file in ("a2d", f"ablation_{name}"))
    for key, value in changes.items():
        section, _, entry = key.partition(".")
        assert whole[section][entry] != value
        whole[section][entry] = value
    assert ablation == whole


@pytest.mark.slow
def test_an_ablation_trains_by_config_alone(acga: Acga, store: Path, tmp_path: Path) -> None:
    Acga().copy_config(tmp_path)
    words = 'extends = "tiny.toml"\n[model]\nfusion = false\nattention = false\n[training]\nforeground_weight = 1.0\n'
    (tmp_path / "ablation.toml").write_text(words)
    done = acga("run", tmp_path / "ablation.toml", "--store", store, "--json")
    assert done.document["executed"] == SINGLE
    assert len(training(done.document)["epochs"]) == 2


def extending(folder: Path, **bases: str) -> Path:
    """Configs by name that extend others; the path of the first."""
    for name, base in bases.items():
        (folder / f"{name}.toml").write_text(f'extends = "{base}"\n[training]\nlr = 0.25\n')
    return folder / f"{next(iter(bases))}.toml"


def test_a_config_may_extend_one_that_extends_another(tmp_path: Path) -> None:
    Acga().copy_config(tmp_path)
    (tmp_path / "middle.toml").write_text('extends = "tiny.toml"\n[training]\nlr = 0.5\nbatch = 3\n')
    top = load(extending(tmp_path, top="middle.toml"), []).training
    assert (top.lr, top.batch, top.epochs) == (0.25, 3, 2)
    assert load(tmp_path / "top.toml", ["training.lr=0.125"]).training.lr == 0.125


# Fails for the empty name: pipeline.config lets pathlib's ValueError through.
@pytest.mark.parametrize("base", ["../a2d.toml", "folder/a2d.toml", "/etc/a2d.toml", "one.toml", ""])
def test_a_config_extends_another_file_of_its_folder_alone(tmp_path: Path, base: str) -> None:
    with pytest.raises(ConfigError, match=r"one\.toml: extends = .*; give the name of another file in "):
        load(extending(tmp_path, one=base), [])


def test_a_config_that_extends_a_missing_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load(extending(tmp_path, one="none.toml"), [])


# Fails: pipeline.config recurses without end.
def test_configs_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="extends"):
        load(extending(tmp_path, one="two.toml", two="one.toml"), [])


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_is_killed_in_training_leaves_no_process_behind(acga: Acga, store: Path, processes: int) -> None:
    settings = overridden(f"training.processes={processes}", "training.epochs=300")
    with acga.saying("TrainedModel", "run", acga.config, "--store", store, *settings) as process:  # it is at work
        below = psutil.Process(process.pid).children(recursive=True)
        process.kill()  # this one alone
        process.wait()
        assert len(below) >= (3 if processes == 1 else 6)  # the server, a task, and what it started
        _, alive = psutil.wait_procs(below, timeout=60)
    assert alive == []
