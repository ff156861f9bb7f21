import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from models import acga
from models.acga import ACGA
from models.backbones.i3d import I3D
from models.files import checkpoints, weights
from models.files.checkpoints import reference_name
from models.files.forms import read_i3d
from models.files.tensors import CheckpointError, is_safetensors

EPS = 1e-5


def trunk(seed: int = 0, modality: str = "rgb") -> I3D:
    i3d = I3D(modality, EPS, width=1 / 16)
    generator = Generator().manual_seed(seed)
    for tensor in i3d.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return i3d.eval()


def model(attention: bool = True, modality: str = "rgb") -> ACGA:
    generator = Generator().manual_seed(2)
    return acga.build(trunk(modality=modality), 6, (5, 4), (6, 5, 4), attention, "scaled", generator).eval()


def assert_same(first: torch.nn.Module, second: torch.nn.Module) -> None:
    expected, found = first.state_dict(), second.state_dict()
    assert list(expected) == list(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def reference(path: Path, changes: dict[str, Tensor | None]) -> Path:
    """Write an authors' checkpoint with some tensors changed, or left out where None."""
    state = {reference_name(name): tensor for name, tensor in model().state_dict().items()} | changes
    kept = {name: tensor for name, tensor in state.items() if tensor is not None}
    torch.save({"epoch": 9, "state_dict": kept, "optimizer": {}}, path)
    return path


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_a_model_comes_back_as_it_was_saved(tmp_path, attention, modality):
    network = model(attention, modality)
    checkpoints.save(network, tmp_path / "model.safetensors")
    found = checkpoints.load(tmp_path / "model.safetensors")
    assert found.sizes == network.sizes and not found.training
    assert_same(network, found)


def test_equal_models_make_equal_bytes(tmp_path):
    for name in ("first", "second"):
        checkpoints.save(model(), tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_a_trunk_comes_back_as_it_was_saved(tmp_path):
    weights.save_trunk(trunk(3), tmp_path / "trunk.safetensors")
    found = weights.load_trunk(tmp_path / "trunk.safetensors")
    assert (found.modality, found.eps, found.width) == ("rgb", EPS, 1 / 16)
    assert_same(trunk(3), found)


def test_the_authors_names_are_these():
    names = {reference_name(name) for name in model().state_dict()}
    layers = {name.removeprefix("module.").rpartition(".")[0] for name in names if "video_model" not in name}
    linear = ("video_reduce", "video_linearK", "video_linearQ", "video_linearV", "txt_increase")
    assert layers == (
        {"txt_model.0", "conv_fusion"}
        | {f"attention_layer.{name}" for name in linear}
        | {f"deconv_{size}.{place}" for size in ("small", "medium") for place in (0, 1)}
        | {f"conv_mask_{size}.{place}" for size in ("small", "medium", "large") for place in (0, 2, 4)}
    )
    assert "module.video_model.model.mixed_4f.branch_1.0.conv3d.weight" in names
    assert "module.video_model.model.conv3d_0c_1x1.conv3d.bias" in names
    assert len(names) == len(model().state_dict())


def test_the_authors_format_goes_out_and_comes_back(tmp_path):
    path = tmp_path / "model_best.pth.tar"
    checkpoints.save_reference(model(), path, epoch=9)
    found = checkpoints.load_reference(path, EPS)
    assert found.sizes == model().sizes
    assert_same(model(), found)
    checkpoint = torch.load(path, weights_only=True)
    assert set(checkpoint) == {"epoch", "state_dict", "optimizer"} and checkpoint["epoch"] == 9
    assert path.read_bytes()[:2] == b"\x80\x02"  # the pickle that PyTorch before 1.6 reads, and no zip file


def test_a_file_tells_its_format(tmp_path):
    checkpoints.save(model(), tmp_path / "ours")
    checkpoints.save_reference(model(), tmp_path / "theirs", epoch=9)
    assert is_safetensors(tmp_path / "ours")
    assert not is_safetensors(tmp_path / "theirs")
    assert not is_safetensors(reference(tmp_path / "zipped", {}))
    for name in ("ours", "theirs", "zipped"):
        assert_same(model(), checkpoints.load_any(tmp_path / name, EPS))


def test_the_trunk_inside_a_trained_model_is_read_alone(tmp_path):
    checkpoints.save(model(), tmp_path / "ours")
    checkpoints.save_reference(model(), tmp_path / "theirs")
    for name in ("ours", "theirs"):
        found = weights.load_video(tmp_path / name, EPS)
        assert_same(model().video, found)
        assert found.eps == EPS and not found.training


def test_old_checkpoints_without_step_counts_are_read(tmp_path):
    counters = {reference_name(name): None for name in model().state_dict() if name.endswith("num_batches_tracked")}
    assert counters
    assert_same(model(), checkpoints.load_reference(reference(tmp_path / "old", counters), EPS))


def test_missing_and_left_over_names_are_listed(tmp_path):
    path = reference(tmp_path / "odd", {"module.conv_fusion.bias": None, "module.bbox.weight": torch.zeros(1)})
    expected = r"missing names \['module.conv_fusion.bias'\], left over names \['module.bbox.weight'\]"
    with pytest.raises(CheckpointError, match=expected):
        checkpoints.load_reference(path, EPS)


def test_wrong_shapes_are_named(tmp_path):
    path = reference(tmp_path / "odd", {"module.conv_fusion.weight": torch.zeros(1, 2, 3, 3)})
    expected = r"module.conv_fusion.weight has shape \(1, 2, 3, 3\), expected \(1, 3, 3, 3\)"
    with pytest.raises(CheckpointError, match=expected):
        checkpoints.load_reference(path, EPS)


def test_a_checkpoint_without_the_first_layer_is_refused(tmp_path):
    stem = "module.video_model.model.conv3d_1a_7x7.conv3d.weight"
    with pytest.raises(CheckpointError, match=stem):
        checkpoints.load_reference(reference(tmp_path / "odd", {stem: None}), EPS)


def test_a_model_without_attention_cannot_go_to_the_authors(tmp_path):
    with pytest.raises(CheckpointError, match="attention"):
        checkpoints.save_reference(model(attention=False), tmp_path / "odd", epoch=1)
    assert not list(tmp_path.iterdir())


class Malicious:
    """Pickles as an order to make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, zipped):
    target, path = tmp_path / "owned", tmp_path / "evil"
    torch.save({"state_dict": Malicious(target)}, path, _use_new_zipfile_serialization=zipped)
    for load in (checkpoints.load_reference, read_i3d, checkpoints.load_any):
        with pytest.raises(CheckpointError, match="not weights alone") as refused:
            load(path, EPS)
        assert "mkdir" in str(refused.value) and "\n" not in str(refused.value)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists()


@pytest.mark.parametrize("kept", [0, 5, 100, 5000])
def test_truncated_files_are_refused(tmp_path, kept):
    checkpoints.save(model(), tmp_path / "ours")
    weights.save_trunk(trunk(), tmp_path / "trunk")
    checkpoints.save_reference(model(), tmp_path / "theirs", epoch=1)
    for path in list(tmp_path.iterdir()):
        path.write_bytes(path.read_bytes()[:kept])
    for load, name in ((checkpoints.load, "ours"), (weights.load_trunk, "trunk")):
        with pytest.raises(CheckpointError, match=name):
            load(tmp_path / name)
    with pytest.raises(CheckpointError, match="theirs"):
        checkpoints.load_reference(tmp_path / "theirs", EPS)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        checkpoints.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="nowhere"):
        read_i3d(tmp_path / "nowhere", EPS)
    with pytest.raises(CheckpointError, match="nowhere"):
        checkpoints.load_any(tmp_path / "nowhere", EPS)


def test_other_safetensors_files_are_refused(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "bare")
    save_file({"weight": torch.zeros(1)}, tmp_path / "odd", {"acga": '{"eps": 1}'})
    weights.save_trunk(trunk(), tmp_path / "trunk")
    for name in ("bare", "odd", "trunk"):
        with pytest.raises(CheckpointError, match=name):
            checkpoints.load(tmp_path / name)


def test_the_ports_weights_are_read_with_or_without_step_counts(tmp_path):
    state = trunk().state_dict()
    torch.save(state, tmp_path / "new.pth")
    torch.save({name: state[name] for name in state if "num_batches" not in name}, tmp_path / "old.pth")
    for name in ("new.pth", "old.pth"):
        found = read_i3d(tmp_path / name, EPS)[0]
        assert (found.modality, found.eps, found.width) == ("rgb", EPS, 1 / 16)
        assert_same(trunk(), found)


def test_the_ports_flow_weights_are_told_by_their_first_layer(tmp_path):
    torch.save(trunk(modality="flow").state_dict(), tmp_path / "flow.pth")
    assert read_i3d(tmp_path / "flow.pth", EPS)[0].modality == "flow"


def test_weights_that_lack_a_layer_are_refused(tmp_path):
    state = trunk().state_dict()
    del state["mixed_5c.branch_0.conv3d.weight"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(CheckpointError, match=r"missing names \['mixed_5c.branch_0.conv3d.weight'\]"):
        read_i3d(tmp_path / "short.pth", EPS)


def test_a_list_is_no_state_dict(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_i3d(tmp_path / "list.pth", EPS)
