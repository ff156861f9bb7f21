"""The videos of a shard as units of work: what is unchanged since earlier artifacts is taken over from them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

Arrays = dict[str, "np.ndarray | np.generic"]


@dataclass(frozen=True)
class Known:
    """A unit in an earlier artifact of the same recipe, sections and files: what it was made from and what came out.

    `folder` holds the artifact's files, whose SHA-256 are `files`."""

    inputs: str
    content: str
    folder: Path
    files: Mapping[str, str]


class Units:
    """What each unit of this artifact is made from (`made`), and what earlier artifacts have of it."""

    def __init__(self, known: Mapping[str, Sequence[Known]]) -> None:
        self.made: dict[str, dict[str, str]] = {}
        self.taken: set[str] = set()
        self._known = known
        self._documents: dict[Path, Any] = {}

    def unchanged(self, unit: str, inputs: str) -> bool:
        """Whether an earlier artifact has this unit, made from the same."""
        return self._earlier(unit, inputs) is not None

    def rows(self, unit: str, inputs: str, file: str, ids: Sequence[str]) -> list[Arrays] | None:
        """The rows of an unchanged unit in the earlier artifact's shard `file`; None where it is to be made anew.

        They are read whole and checked; where they are not what was written, that is said and the unit is made anew.
        """
        earlier = self._earlier(unit, inputs)
        if earlier is None:
            return None
        from extractors.digests import row_digest  # here, since they load h5py
        from extractors.shards import CorruptShard, ShardReader

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

    def document(self, unit: str, inputs: str, file: str) -> Any:
        """What a JSON file of the earlier artifact holds; None where the unit, or that file, is not as it was."""
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
        """Say what a unit was made from and, by the digests of its rows, what came out."""
        self.made[unit] = {"inputs": inputs, "content": joined(digests)}

    def _earlier(self, unit: str, inputs: str) -> Known | None:
        return next((known for known in self._known.get(unit, ()) if known.inputs == inputs), None)


def joined(digests: Iterable[bytes]) -> str:
    """One SHA-256, in hexadecimal, for several digests in their order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def identity(record: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of a raw record without the places of its files."""
    return hashlib.sha256(json.dumps(_placeless(record), sort_keys=True).encode()).hexdigest()


def _placeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _placeless(part) for key, part in value.items() if key != "path"}
    if isinstance(value, list | tuple):
        return [_placeless(part) for part in value]
    return value
