"""SHA-256 digests of named arrays, such as a row of a shard, independent of any file format."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def row_digest(id: str, arrays: Mapping[str, np.ndarray | np.generic]) -> bytes:
    """Return the SHA-256 of a row's id and of the names, dtypes, shapes and values of its arrays."""
    digest = hashlib.sha256()
    update_digest(digest, "id", id)
    for name, value in sorted(arrays.items()):
        update_digest(digest, f"array {name}", f"{little_endian(value.dtype).str} {value.shape}")
        digest.update(value_bytes(value))
    return digest.digest()


def update_digest(digest: Any, *texts: str) -> None:
    """Add texts to a digest, each preceded by its length, so that different lists of texts add different bytes."""
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)


def value_bytes(value: np.ndarray | np.generic) -> bytes:
    """Return the values of an array as little-endian bytes in C order."""
    value = np.asarray(value)
    return np.ascontiguousarray(value, dtype=little_endian(value.dtype)).tobytes()


def little_endian(dtype: np.dtype) -> np.dtype:
    """Return the dtype in little-endian byte order."""
    return dtype.newbyteorder("<")
