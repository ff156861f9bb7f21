"""The check for a machine with a GPU, tried on the CPU: it passes, and it sees what is wrong."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gpu_check
import numpy as np
import pytest
import torch
from commands import PROJECT
from drawn_miniature import DrawnMiniature, covered
from gpu_parity import TINY, Finding, compared, outcome, parity_network
from gpu_training import falling, same_state

from data.miniature.drawing import pictures
from data.miniature.scenes import Spec, scenes
from models.backbones.i3d import I3D
from models.files.tensors import write_tensors
from models.training.loop import STATE
from models.training.state import STATE_KEY

CPU = torch.device("cpu")
VIDEO_AND_STORE = ("decord", "av", "h5py", "hdf5plugin", "zstandard", "luigi", "pydantic")
ABSENT = (*VIDEO_AND_STORE, "pycocotools", "beartype", "tensorboard")


def check(*arguments: str, absent: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the check in a fresh process without GPUs, where importing some libraries fails."""
    program = f"import sys; sys.modules.update(dict.fromkeys({absent})); import gpu_check; sys.exit(gpu_check.main())"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(PROJECT / "tests" / "gpu")}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=PROJECT.parent, env=environment, capture_output=True, text=True, timeout=550)


def test_without_a_gpu_it_says_so_and_fails() -> None:
    ran = check()
    assert ran.returncode == 1, ran.stderr
    assert ran.stdout.startswith("no CUDA device: nothing was checked")


@pytest.mark.slow
def test_on_the_cpu_parity_training_and_resume_hold_without_video_and_hdf5_libraries() -> None:
    ran = check("--device", "cpu", "--tiny", "--pairs", "0", absent=ABSENT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[-1] == "everything holds"
    for mode in ("plain", "fast"):
        assert sum(line.startswith(f"  {mode} mode in") for line in lines) == 2
    for precision in ("float32", "bfloat16"):
        assert sum(line.startswith(f"  {precision}: ") for line in lines) == 1
        assert sum(line.startswith(f"  {precision}, stopped half way and resumed: 0 of") for line in lines) == 1


@pytest.mark.slow
def test_on_the_cpu_it_measures_the_speed() -> None:
    ran = check("--device", "cpu", "--tiny", "--pairs", "1", "--pixels", "32")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "  inference, float32, 32 px: plain " in ran.stdout
    assert "  peak memory of a training step: plain " in ran.stdout


def test_what_is_wrong_and_what_ends_with_an_error_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    def part() -> Iterator[Finding]:
        yield Finding("good")
        yield Finding("bad", False)
        raise RuntimeError("out of memory")

    assert gpu_check.run("a part", part) == 2
    printed = capsys.readouterr().out
    assert "  good\n  WRONG: bad\n  WRONG: it ended with an error" in printed
    assert "out of memory" in printed


def test_parity_sees_another_weight_a_missing_gradient_and_what_is_no_number() -> None:
    model = parity_network(TINY)
    expected = outcome(model, TINY, "plain", torch.float64, CPU)
    assert compared("itself", expected, expected, 0.0, 0.0).holds
    with torch.no_grad():
        model.decoder.mask_large.last.bias += 1e-8
    found = outcome(model, TINY, "plain", torch.float64, CPU)
    assert not compared("other", expected, found, 1e-9, 1.0).holds
    assert compared("other", expected, found, 1e-6, 1.0).holds

    name, gradient = next(iter(expected.gradients.items()))
    for wrong in (1.1 * gradient, torch.full_like(gradient, torch.nan)):
        other = dataclasses.replace(expected, gradients={**expected.gradients, name: wrong})
        assert not compared("gradient", expected, other, 1.0, 1e-9).holds
    logits = {key: torch.full_like(value, torch.nan) for key, value in expected.predicted.items()}
    assert not compared("logits", expected, dataclasses.replace(expected, predicted=logits), 1.0, 1.0).holds


def test_a_loss_that_stays_or_rises_does_not_fall() -> None:
    assert falling("float32", [2.0, 1.9, 1.2, 1.0], 1.0).holds
    for course in ([1.0, 1.0], [1.0, 0.5, 0.5, 1.5], [1.0, float("nan")]):
        assert not falling("float32", course, 1.0).holds


def test_a_state_that_differs_in_one_bit_is_another_one(tmp_path: Path) -> None:
    tensor = torch.tensor([1.0, 2.0])
    for name, value in (("one", tensor), ("same", tensor), ("other", torch.nextafter(tensor, tensor + 1))):
        (tmp_path / name).mkdir()
        write_tensors(tmp_path / name / STATE, {"model.weight": value}, {STATE_KEY: "{}"})
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    assert same_state("float32", (one, same), True).holds
    assert not same_state("float32", (one, same), False).holds
    assert same_state("float32", (one, other), True) == Finding(
        "float32, stopped half way and resumed: 1 of 1 tensors differ, model.weight", False
    )


def test_the_miniature_in_memory_is_the_one_that_is_written_to_files() -> None:
    source = DrawnMiniature(3, 48, I3D("rgb", 1e-5, 1 / 16), CPU)
    drawn = scenes(Spec(seed=0, train_clips=3, test_clips=0, size=48, frames=24, labels=1))
    sentences = [(scene, sentence) for scene in drawn for sentence in scene.sentences]
    batch = source.batch(range(len(source)))
    assert len(source) == len(sentences)
    assert batch.features.shape == (3, 33, 4, 3, 3)
    assert source.videos == [scene.id for scene, _ in sentences]
    for position, (scene, sentence) in enumerate(sentences):
        (number,) = (place for place, actor in enumerate(scene.actors) if actor.instance == sentence.instance)
        labelled = list(pictures(scene, 48))[12 - 1]  # A2D's rule for 24 frames: number 12, counted from 1
        np.testing.assert_array_equal(batch.large[position], labelled.masks[number])
        assert drawn[batch.clip[position]] == scene
        used = len(sentence.text.split())
        assert batch.words[position, :used].abs().sum(1).min() > 0
        assert not batch.words[position, used:].any()
    for clip, positions in enumerate(source.clips):
        assert {source.videos[position] for position in positions} == {drawn[clip].id}


def test_a_cell_is_covered_where_half_of_it_is() -> None:
    mask = np.array([[[1, 0, 1, 0], [1, 0, 0, 0]]], np.uint8)
    assert covered(mask, 2).tolist() == [[[1, 0]]]
