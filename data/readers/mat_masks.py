"""Reader of the masks in J-HMDB's MATLAB v5 files (The MathWorks, "MAT-File Format", level 5).

scipy's reader is not used, because some damaged files crash the whole process in it. Truncation is always detected;
corrupted values are detected by the zlib checksum if the variable is compressed.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from data.readers.annotations import MalformedAnnotations, MissingFile

VARIABLE = "part_mask"

_HEADER_BYTES = 128
_HEAD_BYTES = 4096  # enough for the flags, dimensions and name of a compressed variable
_MOST_VALUES = 2**30
_MATRIX, _COMPRESSED = 14, 15  # types of data elements
_NUMERIC = range(6, 16)  # classes of arrays: double, single, and integers of 8 to 64 bits
_COMPLEX = 0x0800
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}


def read_shape(path: Path) -> tuple[int, int, int]:
    """Return the height, width and number of frames of the file's masks without reading their values.

    Raises MissingFile, MalformedAnnotations."""
    return _opened(path, values=False)[0]


def read_masks(path: Path) -> Shaped[np.ndarray, "h w t"]:
    """Return the file's masks with the stored values and dtype. Raises MissingFile, MalformedAnnotations."""
    shape, values = _opened(path, values=True)
    return values.reshape(shape, order="F")


def _opened(path: Path, values: bool) -> tuple[tuple[int, int, int], np.ndarray]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingFile(
            f"J-HMDB video {path.parent.name}: no file {path} ({error.strerror}). Unpack puppet_mask.zip again."
        ) from None
    try:
        return _masks(content, values)
    except (_Damage, struct.error, zlib.error) as error:
        raise MalformedAnnotations(
            f"J-HMDB video {path.parent.name}: {path} is not a MATLAB v5 file with the variable {VARIABLE} of height, "
            f"width and frames: {error}. Fetch it again, or list the video in [dataset].exclude with a reason."
        ) from None


def _masks(content: bytes, values: bool) -> tuple[tuple[int, int, int], np.ndarray]:
    order = _byte_order(content)
    matrices = list(_matrices(content, order))
    wanted = [matrix for matrix in matrices if matrix.name == VARIABLE]
    if len(wanted) != 1:
        names = ", ".join(matrix.name for matrix in matrices) or "nothing"
        raise _Damage(f"it holds {names}; expected {VARIABLE} once")
    (matrix,) = wanted
    shape, dtype = matrix.shape(), np.dtype(order + matrix.stored())
    expected = math.prod(shape) * dtype.itemsize
    if matrix.size != expected:
        raise _Damage(f"{matrix.size} bytes of values; expected {expected}")
    if not values:
        return shape, np.empty(0, dtype)
    return shape, np.frombuffer(matrix.whole(), dtype, math.prod(shape), matrix.start)


@dataclass(frozen=True)
class _Matrix:
    """One variable of the file; its values are the `size` bytes from `start` on in the result of `whole`."""

    name: str
    flags: int
    dimensions: tuple[int, ...]
    kind: int
    start: int
    size: int
    packed: bytes
    compressed: bool

    def shape(self) -> tuple[int, int, int]:
        if len(self.dimensions) != 3 or min(self.dimensions) < 1 or math.prod(self.dimensions) > _MOST_VALUES:
            raise _Damage(f"{VARIABLE} has the shape {self.dimensions}")
        height, width, frames = self.dimensions
        return height, width, frames

    def stored(self) -> str:
        if self.flags & 0xFF not in _NUMERIC or self.flags & _COMPLEX or self.kind not in _STORED:
            raise _Damage(f"{VARIABLE} is no array of real numbers (class {self.flags & 0xFF}, type {self.kind})")
        return _STORED[self.kind]

    def whole(self) -> bytes:
        """Return all bytes of the variable; a compressed variable's checksum is verified."""
        content, end, whole = self.packed, self.start + self.size, True
        if self.compressed:
            stream = zlib.decompressobj()
            content = stream.decompress(self.packed, end + 16)  # up to 7 bytes of padding, then the checksum
            whole = stream.eof
        if not whole or len(content) < end:
            raise _Damage(f"{VARIABLE} ends after {len(content)} bytes; expected {end}")
        return content


def _byte_order(content: bytes) -> str:
    mark = content[_HEADER_BYTES - 2 : _HEADER_BYTES]
    if mark not in (b"IM", b"MI"):
        raise _Damage("it has no header")
    order = "<" if mark == b"IM" else ">"
    (version,) = struct.unpack_from(order + "H", content, _HEADER_BYTES - 4)
    if version != 0x0100:
        raise _Damage(f"it is of version {version:#06x}")
    return order


def _matrices(content: bytes, order: str) -> Iterator[_Matrix]:
    position = _HEADER_BYTES
    while position < len(content):
        kind, size = struct.unpack_from(order + "II", content, position)
        start = position + 8
        if kind not in (_MATRIX, _COMPRESSED):
            raise _Damage(f"at byte {position} it has an element of type {kind}")
        if start + size > len(content):
            raise _Damage(f"it is cut short: {len(content)} bytes; expected {start + size} or more")
        yield _matrix(content[start : start + size], kind == _COMPRESSED, order)
        position = start + size + (0 if kind == _COMPRESSED else -size % 8)


def _matrix(packed: bytes, compressed: bool, order: str) -> _Matrix:
    head = zlib.decompressobj().decompress(packed, _HEAD_BYTES) if compressed else packed
    position = 0
    if compressed:
        (kind,) = struct.unpack_from(order + "I", head)
        if kind != _MATRIX:
            raise _Damage(f"a compressed element of type {kind}")
        position = 8
    _, start, _, position = _field(head, position, order)
    (flags,) = struct.unpack_from(order + "I", head, start)
    _, start, size, position = _field(head, position, order)
    if size > 4 * 32:  # the maximum number of dimensions
        raise _Damage(f"a variable of {size // 4} dimensions")
    dimensions = struct.unpack_from(f"{order}{size // 4}i", head, start)
    _, start, size, position = _field(head, position, order)
    name = head[start : start + size].decode("latin-1")
    kind, start, size, _ = _field(head, position, order)
    return _Matrix(name, flags, dimensions, kind, start, size, packed, compressed)


def _field(content: bytes, position: int, order: str) -> tuple[int, int, int, int]:
    """Return the type, start and size of a data element of a variable, and the start of the next one."""
    (word,) = struct.unpack_from(order + "I", content, position)
    if word >> 16:  # small element: up to four bytes of data are in the tag itself
        return word & 0xFFFF, position + 4, word >> 16, position + 8
    (size,) = struct.unpack_from(order + "I", content, position + 4)
    start = position + 8
    return word, start, size, start + size + -size % 8


class _Damage(Exception):
    """Raised with a description of the damage in a file, without the file's name."""
