import json

import pytest
import torch
from processes import together
from safetensors.torch import load_file, save_file
from torch import Generator, nn

from models.backbones.i3d import Mixed
from models.training.batch_norm import GlobalBatchNorm3d, convert, set_counts

CHANNELS = 3
CASES = {"uneven": ((3, 1), 0.1), "one has none": ((2, 0), 0.1), "mean over steps": ((1, 2), None)}

# A process takes its share of the maps; without one it takes the first map, which then counts for nothing.
PROGRAM = """
import json, os, pathlib, torch
from safetensors.torch import load_file, save_file
from models.training.batch_norm import GlobalBatchNorm3d, TooFewValues, set_counts
from models.training.distributed import process_group

rank = int(os.environ["RANK"])
folder = pathlib.Path({folder!r})
found, told = {{}}, []
with process_group(torch.device("cpu"), 60.0):
    for name, (shares, momentum) in {cases!r}.items():
        given = load_file(folder / f"{{name}}.safetensors")
        start, count = sum(shares[:rank]), shares[rank]
        rows = slice(start, start + count) if count else slice(0, 1)
        norm = GlobalBatchNorm3d({channels}, eps=1e-3, momentum=momentum).double()
        norm.weight.data, norm.bias.data = given["weight"], given["bias"]
        set_counts(norm, count > 0)
        for step in range(2):
            maps = given[f"maps {{step}}"][rows].clone().requires_grad_(True)
            norm.zero_grad()
            outputs = norm(maps)
            (outputs * given[f"wanted {{step}}"][rows] * (count > 0)).sum().backward()
        found |= {{f"{{name}}.outputs": outputs.detach(), f"{{name}}.maps": maps.grad}}
        found |= {{f"{{name}}.weight": norm.weight.grad.clone(), f"{{name}}.bias": norm.bias.grad.clone()}}
        found |= {{f"{{name}}.state.{{key}}": value.clone() for key, value in norm.state_dict().items()}}
    half = norm.float()(given["maps 0"][rows].bfloat16())
    found["half"] = half.detach()
    set_counts(norm, rank == 0)
    try:
        norm(torch.ones(1, {channels}, 1, 1, 1))
    except TooFewValues as error:
        told.append(str(error))
save_file(found, folder / f"{{rank}}.safetensors")
(folder / f"{{rank}}.json").write_text(json.dumps(told))
"""


def test_two_processes_normalise_as_one_does(tmp_path):
    generator = Generator().manual_seed(1)
    given = {name: case(sum(shares), generator) for name, (shares, _) in CASES.items()}
    for name, tensors in given.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    done = together(PROGRAM.format(folder=str(tmp_path), cases=CASES, channels=CHANNELS))
    assert [code for code, _ in done] == [0, 0], done
    parts = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(2)]
    for name, (shares, momentum) in CASES.items():
        compare(name, shares, parts, *expected(given[name], momentum))
    assert all(part["half"].dtype == torch.bfloat16 for part in parts)
    for rank in range(2):
        (told,) = json.loads((tmp_path / f"{rank}.json").read_text())
        assert "over 1 value a channel" in told


def case(count: int, generator: Generator) -> dict[str, torch.Tensor]:
    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    tensors = {"weight": random(CHANNELS), "bias": random(CHANNELS)}
    for step in range(2):
        tensors[f"maps {step}"] = random(count, CHANNELS, 2, 3, 2) * 3 + 5
        tensors[f"wanted {step}"] = random(count, CHANNELS, 2, 3, 2)
    return tensors


def expected(given, momentum) -> tuple[nn.BatchNorm3d, torch.Tensor, torch.Tensor]:
    """What PyTorch's batch norm does with all maps at once, in two steps."""
    norm = nn.BatchNorm3d(CHANNELS, eps=1e-3, momentum=momentum).double()
    norm.weight.data, norm.bias.data = given["weight"], given["bias"]
    for step in range(2):
        maps = given[f"maps {step}"].clone().requires_grad_(True)
        norm.zero_grad()
        outputs = norm(maps)
        (outputs * given[f"wanted {step}"]).sum().backward()
    return norm, outputs.detach(), maps.grad


def compare(name, shares, parts, norm, outputs, gradients) -> None:
    for key, wanted in (("outputs", outputs), ("maps", gradients)):
        found = [part[f"{name}.{key}"] for part, share in zip(parts, shares, strict=True) if share]
        torch.testing.assert_close(torch.cat(found), wanted, rtol=0, atol=1e-12)
    for key, wanted in (("weight", norm.weight.grad), ("bias", norm.bias.grad)):
        torch.testing.assert_close(sum(part[f"{name}.{key}"] for part in parts), wanted, rtol=0, atol=1e-11)
    for key, wanted in norm.state_dict().items():
        for part in parts:
            torch.testing.assert_close(part[f"{name}.state.{key}"], wanted, rtol=0, atol=1e-12)
    if not all(shares):
        assert not parts[1][f"{name}.maps"].any()


def test_conversion_keeps_names_tensors_and_mode():
    block = Mixed(4, (2, 2, 2, 2, 2, 2), eps=1e-3).eval()
    before = block.state_dict()
    convert(block)
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm3d)]
    assert len(norms) == 6 and all(type(norm) is GlobalBatchNorm3d and norm.eps == 1e-3 for norm in norms)
    assert not any(norm.training for norm in norms)
    after = block.state_dict()
    assert list(after) == list(before)
    assert all(after[name].data_ptr() == before[name].data_ptr() for name in before)
    convert(block)
    assert [module for module in block.modules() if isinstance(module, nn.BatchNorm3d)] == norms


@pytest.mark.parametrize("training", [True, False])
def test_a_single_process_has_pytorchs_batch_norm(training):
    maps = torch.randn(2, 3, 2, 2, 2, generator=Generator().manual_seed(2))
    ours, theirs = GlobalBatchNorm3d(3).train(training), nn.BatchNorm3d(3).train(training)
    set_counts(ours, False)
    assert torch.equal(ours(maps), theirs(maps))
    assert all(torch.equal(one, other) for one, other in zip(ours.buffers(), theirs.buffers(), strict=True))
