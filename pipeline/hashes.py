"""SHA-256 of the raw files, each hashed once for as long as it lies there unchanged."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.key import digest

log = logging.getLogger(__name__)


@dataclass
class Hashes:
    """SHA-256 of files, kept by (path, size, mtime, ctime, inode); files changed in the last 2 s are not kept."""

    path: Path
    known: dict[str, list[Any]]
    dirty: bool = field(default=False)

    @classmethod
    def load(cls, path: Path) -> Hashes:
        """The hashes kept in a file, or none where it is not there or is not what was written."""
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return cls(path, {})
        seal, _, known = text.partition(b"\n")
        if seal.decode(errors="replace") != hashlib.sha256(known).hexdigest():
            log.warning("%s is damaged; hashing all raw files again", path)
            return cls(path, {})
        return cls(path, json.loads(known))

    def of(self, name: str) -> str:
        """SHA-256 of a file, or of the names and contents of a folder's files, by its absolute path."""
        status = os.stat(name)  # noqa: PTH116 - tens of thousands of files: a Path for each costs more than the question
        if stat.S_ISDIR(status.st_mode):
            children = sorted(child for child in Path(name).iterdir() if child.is_file())
            return digest({child.name: self.of(str(child)) for child in children})
        mark = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        entry = self.known.get(name)
        if entry is not None and entry[:4] == mark:
            return str(entry[4])
        with Path(name).open("rb") as file:
            value = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > 2_000_000_000:
            self.known[name] = [*mark, value]
            self.dirty = True
        return value

    def save(self) -> None:
        """Write them down, under a hash of their own, if there are new ones and the folder can be written to."""
        if self.dirty and os.access(self.path.parent, os.W_OK):
            known = json.dumps(self.known).encode()
            replace(self.path, hashlib.sha256(known).hexdigest().encode() + b"\n" + known)


def replace(path: Path, content: bytes) -> None:
    """Replace a file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
