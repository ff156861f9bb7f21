"""Files of tensors: safetensors files, and PyTorch's pickles, which are read with `weights_only`.

Every reader takes a device. On "meta" the names and shapes are read and the values are left in the file, so that a
file can be checked against a network before any work begins.
"""

import json
import os
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

REMEDY = "Fetch or write it again, and load it with the sizes and format that it was saved with."
COUNTER = ".num_batches_tracked"
META = "meta"
SHOWN = 3  # names of tensors in a message

# The types of safetensors files that a network's weights may have.
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}


class CheckpointError(ValueError):
    """Error raised if a file of weights is damaged, unsafe or does not fit the network."""


def is_safetensors(path: Path) -> bool:
    """Return whether a file begins like a safetensors file. Raises CheckpointError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"  # 8 bytes of length, then JSON
    except OSError as error:
        raise CheckpointError(f"Checkpoint {path} cannot be read: {error.strerror}. {REMEDY}") from error


def read_pickle(path: Path, device: str = "cpu") -> object:
    """Return the object that PyTorch saved in a file, without running code from it. Raises CheckpointError."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise CheckpointError(f"Checkpoint {path} cannot be read: {error.strerror or error}. {REMEDY}") from error
    except Exception as error:  # bytes that are no pickle end in errors of any kind
        unsafe = re.search(r"(?:GLOBAL|class) (\w+(?:\.\w+)+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and unsafe:
            raise CheckpointError(
                f"Checkpoint {path} is a pickle of {unsafe[1]}, which could run code, and not weights alone. Save the"
                " module's state dict (torch.save(module.state_dict(), ...)) where its code is, and name that file."
            ) from None
        raise CheckpointError(
            f"Checkpoint {path} is damaged, or not weights alone, as torch.save or safetensors write them. {REMEDY}"
        ) from error


def read_safetensors(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file. Raises CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            names = sorted(file.keys())
            if device == META:
                return {name: _empty(file.get_slice(name)) for name in names}, file.metadata() or {}
            return {name: file.get_tensor(name).to(device) for name in names}, file.metadata() or {}
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"Checkpoint {path} is damaged, or no safetensors file: {error}. {REMEDY}") from error


def read_tensors(path: Path, key: str, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a safetensors file and the JSON object under a metadata key. Raises CheckpointError."""
    tensors, metadata = read_safetensors(path, device)
    if key not in metadata:
        raise CheckpointError(f"Checkpoint {path} has metadata {sorted(metadata)}, expected {key!r}. {REMEDY}")
    try:
        return tensors, dict(json.loads(metadata[key]))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"Checkpoint {path} is damaged: its metadata {key!r} ({error}). {REMEDY}") from error


def shaped(tensors: Mapping[str, Any], name: str, axes: int, path: Path) -> Tensor:
    """Return a tensor of a state dict. Raises CheckpointError if it is missing or has fewer than `axes` axes."""
    tensor = tensors.get(name)
    if not isinstance(tensor, Tensor) or tensor.ndim < axes:
        raise CheckpointError(f"Checkpoint {path} has no tensor {name!r} of {axes} axes or more. {REMEDY}")
    return tensor


def filled(module: Module, tensors: Mapping[str, Any], path: Path, naming: Callable[[str], str] = str) -> Module:
    """Return the module in evaluation mode, after loading the tensors as its state dict. Raises CheckpointError.

    `naming` maps a name of the module to the name in the file, for error messages. Names, shapes and kinds of numbers
    must be those of the module, except that the batch norms' `num_batches_tracked` may be missing, as in old files.
    """
    expected = module.state_dict()
    given = {name: tensor for name, tensor in expected.items() if name.endswith(COUNTER)} | dict(tensors)
    missing = sorted(naming(name) for name in expected if name not in given)
    left_over = sorted(name for name in given if name not in expected)
    if missing or left_over:
        raise CheckpointError(
            f"Checkpoint {path}: missing names {listed(missing)}, left over names {listed(left_over)}. {REMEDY}"
        )
    for name, tensor in given.items():
        if not isinstance(tensor, Tensor) or tensor.shape != expected[name].shape:
            found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            shape = tuple(expected[name].shape)
            raise CheckpointError(f"Checkpoint {path}: {naming(name)} has shape {found}, expected {shape}. {REMEDY}")
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise CheckpointError(
                f"Checkpoint {path}: {naming(name)} holds {tensor.dtype}, expected {expected[name].dtype}. {REMEDY}"
            )
    module.load_state_dict(given)
    module.eval()
    return module


def listed(names: Sequence[str]) -> str:
    """Return the first names as a list in brackets, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{[*names[:SHOWN]]}{more}"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata to a safetensors file, atomically."""
    write_bytes(path, serialised({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: it is synchronised to disk under another name and then renamed."""
    scratch = path.with_name(f".{path.name}.part")
    with scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def _empty(part: Any) -> Tensor:
    """Return a tensor without values like the one that a slice of a safetensors file would read."""
    kind = part.get_dtype()
    if kind not in _TYPES:
        raise ValueError(f"a tensor of {kind}, expected one of {', '.join(_TYPES)}")
    return torch.empty(part.get_shape(), dtype=_TYPES[kind], device=META)
