"""What can be known is said before the first task: exit code 2, one line for each finding, nothing built."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import Acga, Finished, Run
from safetensors.torch import save_file
from stores import data_files
from torch import Tensor
from weight_forms import I3D_FORMS, i3d, resnet, without

from models.files import published

USAGE = 2
PORT_BIAS = "mixed_4d.branch_1.1.batch3d.bias"


def run(acga: Acga, store: Path, *overrides: str, until: str = "Report") -> Finished:
    sets = [part for key in overrides for part in ("--set", key)]
    return acga("run", acga.config, "--store", store, "--until", until, *sets)


def findings(done: Finished) -> list[str]:
    """The lines of a refusal, after which the store has no artifact."""
    assert done.code == USAGE, done.errors
    assert done.output == "" and "Traceback" not in done.errors and "\x1b" not in done.errors
    return [line for line in done.errors.splitlines() if line.startswith("acga: ")]


def nothing_built(store: Path) -> bool:
    return not list(store.glob("*/*/manifest.json")) and not list(store.glob("*/*/attempt-*"))


def state_without_bias() -> dict[str, Tensor]:
    return without(i3d().state_dict(), PORT_BIAS)


WEIGHTS: dict[str, tuple[Callable[[], object], str]] = {
    "a resnet": (lambda: resnet().state_dict(), "looks like a ResNet; expected I3D. Accepted are"),
    "a missing tensor": (state_without_bias, f"missing names ['{PORT_BIAS}']"),
    "a misshapen tensor": (lambda: i3d().state_dict() | {PORT_BIAS: torch.zeros(3)}, f"{PORT_BIAS} has shape (3,)"),
    "a module": (i3d, "models.backbones.i3d.I3D, which could run code"),
    "a list": (lambda: [1, 2], "holds a list, expected a state dict"),
    "flow": (
        lambda: i3d().state_dict() | {"conv3d_1a_7x7.conv3d.weight": torch.zeros(4, 2, 7, 7, 7)},
        "holds i3d for flow; expected i3d for rgb",
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_do_not_fit_are_refused_before_anything_is_built(acga: Acga, tmp_path: Path, name: str) -> None:
    made, said = WEIGHTS[name]
    torch.save(made(), tmp_path / "weights.pt")
    (line,) = findings(run(acga, tmp_path / "store", f"visual.weights={tmp_path / 'weights.pt'}"))
    assert said in line, line
    assert nothing_built(tmp_path / "store")


OTHERS: dict[str, tuple[tuple[str, ...], str]] = {
    "no checkpoint": (("model.checkpoint=/etc/passwd",), "/etc/passwd is damaged, or not weights alone"),
    "no weights": (("visual.weights=/etc/passwd",), "/etc/passwd is damaged, or not weights alone"),
    "memory": (("frames.size=102400",), "VisualFeatures would hold at least"),
    "device": (("compute.device=cuda",), "this machine has no CUDA devices"),
    "training": (("training.patience=3",), "training.patience = 3, but training.validation = 0"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_this_machine_or_the_config_cannot_do_is_refused(acga: Acga, tmp_path: Path, name: str) -> None:
    overrides, said = OTHERS[name]
    lines = findings(run(acga, tmp_path / "store", *overrides))
    assert any(said in line for line in lines), lines
    assert nothing_built(tmp_path / "store")


def test_the_figure_of_the_memory_is_told(acga: Acga, tmp_path: Path) -> None:
    lines = findings(run(acga, tmp_path / "store", "frames.size=102400"))
    (frames,) = (line for line in lines if line.startswith("acga: Frames would hold at least 469 GiB"))
    assert "frames.length = 16, frames.size = 102400" in frames  # 16 * 102400 ** 2 * 3 bytes


def test_vectors_of_another_dimension_are_refused(acga: Acga, tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text("dog 0.5 1 2\n")
    (line,) = findings(run(acga, tmp_path / "store", f"text.vectors={tmp_path / 'glove.txt'}"))
    assert "glove.txt: vectors of 3 values, but text.dim is 16" in line
    assert nothing_built(tmp_path / "store")


def test_a_checkpoint_for_other_vectors_is_refused(acga: Acga, finished: Run, store: Path) -> None:
    (model,) = (finished.store / "TrainedModel").glob("*/attempt-*/model.safetensors")
    before = data_files(store)
    (line,) = findings(run(acga, store, f"model.checkpoint={model}", "text.dim=300"))
    assert "reads word vectors of 16 values; set text.dim" in line
    assert data_files(store) == before


def test_all_findings_come_at_once(acga: Acga, tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text("dog 0.5 1 2\n")
    torch.save([1], tmp_path / "weights.pt")
    lines = findings(
        run(
            *(acga, tmp_path / "store", f"text.vectors={tmp_path / 'glove.txt'}", "compute.device=cuda"),
            *(f"visual.weights={tmp_path / 'weights.pt'}", "frames.size=102400"),
        )
    )
    assert [sum(said in line for line in lines) for said in ("CUDA", "glove", "a list", "Frames would hold")] == [1] * 4
    assert nothing_built(tmp_path / "store")


def test_stages_that_do_not_need_a_file_do_not_look_at_it(acga: Acga, finished: Run, store: Path) -> None:
    assert run(acga, store, "visual.weights=/etc/passwd", until="Masks").code == 0
    assert data_files(store) == data_files(finished.store)


@pytest.mark.slow
def test_weights_are_said_once_and_kept_and_give_equal_features(acga: Acga, store: Path, tmp_path: Path) -> None:
    plain = i3d().state_dict()
    torch.save(plain, tmp_path / "plain.pt")
    save_file({f"module.{name}": tensor for name, tensor in plain.items()}, tmp_path / "prefixed.safetensors")
    torch.save(I3D_FORMS["all"][0](plain), tmp_path / "all.pt")
    features = []
    for name, said in (("plain.pt", "port names, 400"), ("prefixed.safetensors", "prefix"), ("all.pt", "piergiaj")):
        before = set((store / "VisualFeatures").iterdir())
        done = run(acga, store, f"visual.weights={tmp_path / name}", until="VisualFeatures")
        assert done.code == 0, done.errors
        (line,) = (line for line in done.errors.splitlines() if line.startswith("visual.weights: "))
        assert said in line and line.endswith(published.UNKNOWN)
        assert ("visual.batch_norm=tensorflow follows the source" in line) == (name == "all.pt")
        made = set((store / "VisualFeatures").iterdir()) - before
        features.append({path.read_bytes() for folder in made for path in folder.glob("attempt-*/visual.h5")})
        assert all(said in (folder / "manifest.json").read_text() for folder in made)
    assert len(features[0]) == 4 and features[0] == features[1] == features[2]


def test_check_finds_the_same(acga: Acga, tmp_path: Path) -> None:
    torch.save(i3d().state_dict(), tmp_path / "good.pt")
    options = ("check", acga.config, "--store", tmp_path / "store", "--fast")
    done = acga(*options, "--set", f"visual.weights={tmp_path / 'good.pt'}")
    assert done.code == 0, done.errors
    assert "visual.weights: I3D RGB, port names, 400 classes; not a file we know" in done.output.splitlines()
    done = acga(*options, "--set", "visual.weights=/etc/passwd", "--set", "compute.device=cuda")
    assert done.code == 1
    assert "/etc/passwd" in done.output and "CUDA" in done.output and done.output.splitlines()[-1] == "2 errors"
