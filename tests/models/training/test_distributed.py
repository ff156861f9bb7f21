import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
from processes import together

from models.files.tensors import read_tensors
from models.training.distributed import all_reduce_sum, check_in_step, rank, world_size
from models.training.loop import STATE, train
from models.training.state import STATE_KEY

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
HERE = Path(__file__).parent

# Name -> precision of the weights, clips, and what differs from the settings of `test_training`.
CASES = {
    # Batches of two clips with two sentences each, the last one with a single clip: one process has none of it.
    "clips": ("float64", 5, {"gradient_norm": 0.5}),
    # Micro-batches of two and three samples, split unevenly; a validation set; mirrored clips.
    "everything": (
        "float64",
        6,
        {"sampling": "epoch", "batch": 5, "accumulate": 2, "flip": True, "validation": 0.4, "gradient_norm": 0.5},
    ),
    "float32": ("float32", 5, {}),
}

# The three things that two processes do: train, refuse to train in different folders, and fail when one of them dies.
PROGRAM = """
import importlib.util, os, pathlib, torch
spec = importlib.util.spec_from_file_location("first", {module!r})
first = importlib.util.module_from_spec(spec); sys.modules["first"] = first; spec.loader.exec_module(first)
from dataclasses import replace
from models.training.distributed import OutOfStep, process_group
from models.training.loop import train

root, rank, told = pathlib.Path({root!r}), int(os.environ["RANK"]), []

class Deadly(first.Halves):
    def batch(self, indices):
        if rank == 1 and len(self.asked) == 2:
            os._exit(7)
        return super().batch(indices)

with process_group(first.CPU, 60.0):
    for name, (precision, clips, changes) in {cases!r}.items():
        network = first.model().to(getattr(torch, precision))
        if rank == 1:
            network.decoder.fusion.bias.data += 1  # the first process's weights are everyone's
        settings = replace(first.SETTINGS, **changes)
        train(network, first.Halves(clips), settings, first.CPU, root / name, told.append)
    (root / f"{{rank}}.steps").write_text(str(len(told)))
    try:
        folder = root / ("float32" if rank == 0 else "empty")
        train(first.model(), first.Halves(5), settings, first.CPU, folder)
    except OutOfStep as error:
        (root / f"{{rank}}.txt").write_text(str(error))
    train(first.model(), Deadly(8), first.SETTINGS, first.CPU, root / "deadly")
"""


@pytest.fixture(scope="module")
def first():
    """The module `test_training`, which the processes load too."""
    spec = importlib.util.spec_from_file_location("first", HERE / "test_loop.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> tuple[Path, list[tuple[int, str]]]:
    """The folder in which two processes did all that, and how they ended."""
    folder = tmp_path_factory.mktemp("together")
    program = PROGRAM.format(module=str(HERE / "test_loop.py"), root=str(folder), cases=CASES)
    return folder, together(program)


@pytest.fixture(scope="module")
def root(processes) -> Path:
    """The folder alone."""
    folder, ends = processes
    assert (folder / "1.txt").exists(), ends
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one_does(first, root, tmp_path, name):
    precision, clips, changes = CASES[name]
    tolerance = {"float64": 1e-9, "float32": 1e-4}[precision]
    network = first.model().to(getattr(torch, precision))
    settings = dataclasses.replace(first.SETTINGS, **changes)
    losses = train(network, first.Halves(clips), settings, CPU, tmp_path)
    expected, _ = read_tensors(tmp_path / STATE, STATE_KEY)
    found, document = read_tensors(root / name / STATE, STATE_KEY)
    for one, other in zip(document["losses"], map(dataclasses.asdict, losses), strict=True):
        assert (one["validation"] is None) == (other["validation"] is None) == (settings.validation == 0)
        for key in ("small", "medium", "large", "validation"):
            assert one[key] is None or one[key] == pytest.approx(other[key], rel=0, abs=tolerance)
    assert list(found) == list(expected)
    assert any(key.startswith("best.") for key in found) == (settings.validation > 0)
    difference = {key: (found[key].double() - tensor.double()).abs().flatten() for key, tensor in expected.items()}
    if precision == "float64":
        assert {key: values.max().item() for key, values in difference.items() if values.max() > tolerance} == {}
    else:
        # Adam moves a weight by about the learning rate at any gradient, be it nothing but rounding noise.
        weights = torch.cat([values for key, values in difference.items() if key.startswith("model.")])
        assert (weights < tolerance).double().mean() > 0.99
        moments = torch.cat([values for key, values in difference.items() if key.startswith("adam.")])
        assert moments.max() < tolerance


def test_processes_in_different_folders_are_refused(root):
    for number in range(2):
        assert "(epoch, step) [(2, 0), (0, 0)], expected one place" in (root / f"{number}.txt").read_text()


def test_only_the_first_process_tells_of_progress(root):
    assert [(root / f"{number}.steps").read_text() for number in range(2)] == [str(2 * (3 + 2 + 3)), "0"]


def test_no_process_waits_for_one_that_died(processes):
    (first_code, error), (second_code, _) = processes[1]
    assert second_code == 7
    assert first_code == 1 and "RuntimeError" in error


def test_a_single_process_is_on_its_own():
    tensor = torch.ones(2)
    check_in_step((1, 2), CPU)
    assert (world_size(), rank()) == (1, 0)
    assert all_reduce_sum(tensor, CPU) is tensor
