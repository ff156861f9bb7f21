"""Reuse of results by unit, a video of a shard: units that have not changed are copied from earlier artifacts."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

Arrays = dict[str, "np.ndarray | np.generic"]


@dataclass(frozen=True)
class Known:
    """A unit in an earlier artifact of the same code, sections and files: the digests of its inputs and its content.

    `folder` contains the artifact's files, and `files` their SHA-256."""

    inputs: str
    content: str
    folder: Path
    files: Mapping[str, str]


class Units:
    """The units of an artifact: the inputs and content of each (`made`), and access to those of earlier artifacts."""

    def __init__(self, known: Mapping[str, Sequence[Known]]) -> None:
        self.made: dict[str, dict[str, str]] = {}
        self.taken: set[str] = set()
        self._known = known
        self._documents: dict[Path, object] = {}

    def unchanged(self, unit: str, inputs: str) -> bool:
        """Return whether an earlier artifact contains this unit, made from the same inputs."""
        return self._earlier(unit, inputs) is not None

    def rows(self, unit: str, inputs: str, file: str, ids: Sequence[str]) -> list[Arrays] | None:
        """Return the rows of an unchanged unit from the shard `file` of an earlier artifact; None if there is none.

        The rows are read completely and verified. If they are damaged, a warning is logged and None is returned, and
        the unit must be made again.
        """
        earlier = self._earlier(unit, inputs)
        if earlier is None:
            return None
        from extractors.shards.digests import row_digest  # imported here because they load h5py
        from extractors.shards.shard import CorruptShard, ShardReader

        reader = ShardReader(earlier.folder / file)
        try:
            place = {name: row for row, name in enumerate(reader.ids)}
            found: list[Arrays] = [{name: reader.read(name, place[id]) for name in reader.names} for id in ids]
        except (CorruptShard, KeyError, FileNotFoundError) as error:
            log.warning("%s cannot be taken over from %s (%s); made anew", unit, earlier.folder, error)
            return None
        finally:
            reader.close()
        if joined(row_digest(id, arrays) for id, arrays in zip(ids, found, strict=True)) != earlier.content:
            log.warning("%s cannot be taken over from %s (its content has changed); made anew", unit, earlier.folder)
            return None
        self.taken.add(unit)
        return found

    def document(self, unit: str, inputs: str, file: str) -> object:
        """Return the content of an earlier artifact's JSON file, or None if the unit or the file has changed."""
        earlier = self._earlier(unit, inputs)
        if earlier is None:
            return None
        path = earlier.folder / file
        if path not in self._documents:
            content = path.read_bytes() if path.exists() else b""
            whole = hashlib.sha256(content).hexdigest() == earlier.files[file]
            self._documents[path] = json.loads(content) if whole else None
        return self._documents[path]

    def record(self, unit: str, inputs: str, digests: Iterable[bytes]) -> None:
        """Record the inputs of a unit and, given the digests of its rows, its content."""
        self.made[unit] = {"inputs": inputs, "content": joined(digests)}

    def _earlier(self, unit: str, inputs: str) -> Known | None:
        return next((known for known in self._known.get(unit, ()) if known.inputs == inputs), None)


def joined(digests: Iterable[bytes]) -> str:
    """Return one SHA-256, in hexadecimal, of several digests in order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def identity(record: Mapping[str, object]) -> str:
    """Return the SHA-256, in hexadecimal, of a raw record without the paths of its files."""
    return hashlib.sha256(json.dumps(_placeless(record), sort_keys=True).encode()).hexdigest()


def _placeless(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _placeless(part) for key, part in value.items() if key != "path"}
    if isinstance(value, list | tuple):
        return [_placeless(part) for part in value]
    return value
