"""Weights in every form in which people have them give the same features; whatever differs is refused by name."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Generator, Tensor
from weight_forms import EPS, I3D_FORMS, LAST, RESNET_FORMS, State, i3d, of_classes, piergiaj, resnet, without

from models.files import checkpoints
from models.files.forms import KINDS, read_i3d, read_resnet
from models.files.tensors import META, CheckpointError

# Written out by hand after pytorch_i3d.py and the port's i3dpt.py: one name of every kind.
PIERGIAJ = {
    "conv3d_1a_7x7.conv3d.weight": "Conv3d_1a_7x7.conv3d.weight",
    "conv3d_2b_1x1.batch3d.running_var": "Conv3d_2b_1x1.bn.running_var",
    "conv3d_2c_3x3.batch3d.num_batches_tracked": "Conv3d_2c_3x3.bn.num_batches_tracked",
    "mixed_3b.branch_0.conv3d.weight": "Mixed_3b.b0.conv3d.weight",
    "mixed_4b.branch_1.0.batch3d.weight": "Mixed_4b.b1a.bn.weight",
    "mixed_4f.branch_1.1.conv3d.weight": "Mixed_4f.b1b.conv3d.weight",
    "mixed_5b.branch_2.0.batch3d.bias": "Mixed_5b.b2a.bn.bias",
    "mixed_5c.branch_2.1.batch3d.running_mean": "Mixed_5c.b2b.bn.running_mean",
    "mixed_3c.branch_3.1.conv3d.weight": "Mixed_3c.b3b.conv3d.weight",
    "conv3d_0c_1x1.conv3d.weight": "logits.conv3d.weight",
}


def written(content: object, path: Path, safetensors: bool) -> Path:
    """Write a file of torch.save, or, if the content is a bare state dict, of safetensors."""
    if safetensors and isinstance(content, dict) and all(isinstance(each, Tensor) for each in content.values()):
        save_file({name: tensor.contiguous() for name, tensor in content.items()}, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("safetensors", [False, True])
@pytest.mark.parametrize("form", I3D_FORMS)
def test_every_form_of_i3d_gives_the_features_of_the_plain_one(tmp_path: Path, form: str, safetensors: bool) -> None:
    plain, (made, said) = i3d(), I3D_FORMS[form]
    path = written(made(plain.state_dict()), tmp_path / "weights", safetensors)
    found, told = read_i3d(path, EPS)
    assert said in told.describe(found) and not found.training
    assert told.eps == (1e-3 if "piergiaj" in told.describe(found) else None)
    clip = torch.rand(1, 3, 8, 32, 32, generator=Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(plain.head(plain.trunk(clip)), found.head(found.trunk(clip)))
    expected = plain.state_dict()
    counted = "counters" not in form and form != "all"
    same = {name for name in expected if LAST not in name and (counted or "num_batches" not in name)}
    assert all(torch.equal(expected[name], found.state_dict()[name]) for name in same)
    shapes, again = read_i3d(path, EPS, META)
    assert again == told and {tensor.device.type for tensor in shapes.state_dict().values()} == {META}


@pytest.mark.parametrize("safetensors", [False, True])
@pytest.mark.parametrize("form", RESNET_FORMS)
def test_every_form_of_a_resnet_gives_the_features_of_the_plain_one(
    tmp_path: Path, form: str, safetensors: bool
) -> None:
    plain, (made, said) = resnet(), RESNET_FORMS[form]
    path = written(made(plain.state_dict()), tmp_path / "weights", safetensors)
    found, told = read_resnet(path, 2)
    assert said in told.describe(found) and told.eps is None
    clip = torch.rand(1, 3, 4, 32, 32, generator=Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(plain.head(plain.trunk(clip)), found.head(found.trunk(clip)))
    assert read_resnet(path, 2, META)[1] == told


def test_the_names_are_those_of_the_two_sources() -> None:
    theirs = piergiaj(i3d().state_dict())
    assert {ours: theirs_name for ours, theirs_name in PIERGIAJ.items() if theirs_name in theirs} == PIERGIAJ
    assert len(theirs) == len(i3d().state_dict())


def test_a_classifier_that_is_not_used_becomes_zeros(tmp_path: Path) -> None:
    torch.save(of_classes(i3d().state_dict(), LAST, 157), tmp_path / "charades")
    found, told = read_i3d(tmp_path / "charades", EPS)
    assert told.classes == 157
    last = {name: tensor for name, tensor in found.state_dict().items() if LAST in name}
    assert {tensor.shape[0] for tensor in last.values()} == {400} and not any(t.any() for t in last.values())


REFUSED: dict[str, tuple[Callable[[State], object], str]] = {
    "a resnet": (lambda s: resnet().state_dict(), "looks like a ResNet; expected I3D"),
    "trained": (lambda s: {f"video.{name}": tensor for name, tensor in s.items()}, "give it as model.checkpoint"),
    "unknown": (lambda s: {"blocks.0.weight": torch.zeros(3, 4)}, r"1 tensor such as 'blocks.0.weight' \(3, 4\)"),
    "empty": (lambda s: {}, "holds nothing"),
    "an entry": (lambda s: s | {"epoch": 3}, "under 'epoch' a int"),
    "a list": (lambda s: [1], "holds a list"),
    "two sources": (lambda s: s | piergiaj(s), "two sources"),
    "half a classifier": (lambda s: without(s, f"{LAST}.bias"), rf"missing names \['{LAST}.bias'\]"),
    "another classifier": (lambda s: s | {f"{LAST}.weight": torch.zeros(400, 3)}, f"{LAST}.weight has shape"),
    "grey": (lambda s: s | {"conv3d_1a_7x7.conv3d.weight": torch.zeros(4, 1, 7, 7, 7)}, "1 input channels"),
    "numbers": (lambda s: s | {"mixed_3b.branch_0.batch3d.bias": torch.zeros(4, dtype=torch.int8)}, "holds torch.int8"),
    "piergiaj, short": (lambda s: without(piergiaj(s), "Mixed_4d.b1b.bn.bias"), r"\['Mixed_4d.b1b.bn.bias'\]"),
}


@pytest.mark.parametrize("device", ["cpu", META])
@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_refused_in_one_line(tmp_path: Path, name: str, device: str) -> None:
    made, said = REFUSED[name]
    torch.save(made(i3d().state_dict()), tmp_path / "weights")
    with pytest.raises(CheckpointError) as refused:
        read_i3d(tmp_path / "weights", EPS, device)
    assert re.search(said, str(refused.value)), refused.value
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 600
    if name in ("a resnet", "unknown", "a list"):
        assert KINDS in str(refused.value)


def test_a_resnet_of_another_kind_is_refused(tmp_path: Path) -> None:
    torch.save(i3d().state_dict(), tmp_path / "i3d")
    with pytest.raises(CheckpointError, match="looks like I3D; expected a ResNet"):
        read_resnet(tmp_path / "i3d", 2)
    torch.save(without(resnet().state_dict(), "layer4.1.bn2.weight"), tmp_path / "short")
    with pytest.raises(CheckpointError, match=r"missing names \['layer4.1.bn2.weight'\]"):
        read_resnet(tmp_path / "short", 2)


def test_a_whole_pickled_module_is_refused_in_one_line(tmp_path: Path) -> None:
    torch.save(i3d(), tmp_path / "module.pt")
    with pytest.raises(CheckpointError) as refused:
        read_i3d(tmp_path / "module.pt", EPS)
    message = str(refused.value)
    assert "models.backbones.i3d.I3D" in message and "state_dict()" in message
    assert "\n" not in message and "\x1b" not in message and "weights_only" not in message


@pytest.mark.parametrize("content", [b"", b"root:x:0:0:root:/root:/bin/bash\n" * 40, b"\x80\x02}q\x00.", b"PK\x03\x04"])
def test_files_of_other_kinds_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights").write_bytes(content)
    for load in (read_i3d, checkpoints.load_any):
        with pytest.raises(CheckpointError) as refused:
            load(tmp_path / "weights", EPS)
        assert "\n" not in str(refused.value)


PLAIN = i3d().state_dict()
NAMES = [name for name in PLAIN if "num_batches_tracked" not in name]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_state_is_loaded_silently(tmp_path: Path, data: st.DataObject) -> None:
    """Names permuted among other shapes, renamed, dropped or reshaped: refused, and the message names one of them."""
    state = dict(piergiaj(PLAIN) if data.draw(st.booleans()) else PLAIN)
    names = [name for name in state if "num_batches_tracked" not in name]
    name = data.draw(st.sampled_from(names))
    tensor = state.pop(name)
    match data.draw(st.sampled_from(["dropped", "renamed", "swapped", "reshaped", "transposed", "cut"])):
        case "renamed":
            state[data.draw(st.sampled_from([f"{name}2", f"x.{name}", name.swapcase(), name.replace(".", "_")]))] = (
                tensor
            )
        case "swapped":
            other = data.draw(st.sampled_from([each for each in state if state[each].shape != tensor.shape]))
            state[name], state[other] = state[other], tensor
        case "reshaped":
            state[name] = tensor[None]
        case "transposed" if tensor.ndim == 5 and tensor.shape[0] != tensor.shape[1]:
            state[name] = tensor.transpose(0, 1)
        case "cut" if "weight" in name and tensor.ndim == 5:
            state[name] = tensor[:, :0]
    torch.save(state, tmp_path / "weights")
    with pytest.raises(CheckpointError) as refused:
        read_i3d(tmp_path / "weights", EPS)
    assert "weights" in str(refused.value)
