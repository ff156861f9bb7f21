"""SHA-256 over arrays and their names: what a row of a shard is, apart from any file."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def row_digest(id: str, arrays: Mapping[str, np.ndarray | np.generic]) -> bytes:
    """The SHA-256 of a row's id and of the names, dtypes, shapes and values of its arrays."""
    digest = hashlib.sha256()
    update_digest(digest, "id", id)
    for name, value in sorted(arrays.items()):
        update_digest(digest, f"array {name}", f"{little_endian(value.dtype).str} {value.shape}")
        digest.update(value_bytes(value))
    return digest.digest()


def update_digest(digest: Any, *texts: str) -> None:
    """Add texts to a digest, each with its length, so that no two lists of texts add the same."""
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)


def value_bytes(value: np.ndarray | np.generic) -> bytes:
    """The values of an array in C order, little endian."""
    value = np.asarray(value)
    return np.ascontiguousarray(value, dtype=little_endian(value.dtype)).tobytes()


def little_endian(dtype: np.dtype) -> np.dtype:
    """The dtype in little endian order."""
    return dtype.newbyteorder("<")
