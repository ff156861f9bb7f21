"""Reading and validation of arrays in an open HDF5 annotation file; arrays are passed as h5py datasets."""

from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Shaped

from data.readers.annotations import MalformedAnnotations, MaskSizeMismatch

MOST_INSTANCES = 255  # per frame; A2D-Sentences has at most 16


def masks(stored: Any, name: str, height: int, width: int) -> Shaped[np.ndarray, "n h w"]:
    """Return the masks upright, with the stored values and dtype. MATLAB reverses the axes; a single mask has two axes.

    Raises MalformedAnnotations and MaskSizeMismatch, with messages that begin with `name`."""
    shape = stored.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and not 1 <= shape[0] <= MOST_INSTANCES):
        raise MalformedAnnotations(
            f"{name}: reMask of shape {shape}; expected (instances, width, height), or (width, height) of one."
        )
    if shape[-2:] != (width, height):
        raise MaskSizeMismatch(
            f"{name}: masks of {shape[-1]} x {shape[-2]}, but the video is {height} x {width} (height x width). "
            "Fetch the annotations again, correct videoset.csv, or list the video in [dataset].exclude with a reason."
        )
    return np.reshape(_values(stored, name), (-1, width, height)).transpose(0, 2, 1)


def integers(stored: Any, name: str) -> tuple[int, ...]:
    """Return the integers of a vector, which MATLAB stores as a matrix of one row and type double.

    Raises MalformedAnnotations, with a message that begins with `name`."""
    key, shape = stored.name.removeprefix("/"), stored.shape
    vector = len(shape) == 1 or (len(shape) == 2 and 1 in shape)
    if not vector or not 1 <= stored.size <= MOST_INSTANCES or stored.dtype.kind not in "iuf":
        raise MalformedAnnotations(
            f"{name}: {key} has shape {shape} and type {stored.dtype}; expected a number for each instance. "
            "Fetch the file again."
        )
    values = _values(stored, name).reshape(-1)
    if not np.isfinite(values).all() or not np.array_equal(values, np.floor(values)):
        raise MalformedAnnotations(f"{name}: {key} holds {values.tolist()}; expected integers. Fetch the file again.")
    return tuple(int(value) for value in values)


def _values(stored: Any, name: str) -> np.ndarray:
    if stored.external or not _whole(stored):
        raise MalformedAnnotations(f"{name}: parts of {stored.name} are not in the file. Fetch it again.")
    return np.asarray(stored[...])


def _whole(stored: Any) -> bool:
    """Return whether the file contains every chunk of an array; HDF5 reads chunks that are missing as zeros.

    Each chunk is read directly, since the list of chunks may contain one that HDF5 cannot find in the file."""
    if stored.chunks is None:
        return bool(stored.id.get_storage_size() == stored.nbytes)
    steps = zip(stored.shape, stored.chunks, strict=True)
    corners = list(product(*(range(0, size, step) for size, step in steps)))
    if stored.id.get_num_chunks() != len(corners):
        return False
    try:
        skipped = [stored.id.read_direct_chunk(corner)[0] for corner in corners]  # skipped filters, such as compression
    except RuntimeError:
        return False
    return not any(skipped)
