"""A cache of the SHA-256 of raw files: a file is hashed again only after it has changed."""

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

from pipeline.store.canonical_json import digest

log = logging.getLogger(__name__)


@dataclass
class Hashes:
    """A cache of the SHA-256 of files, keyed by (path, size, mtime, ctime, inode).

    Files that changed in the last 2 s are not cached.
    """

    path: Path
    known: dict[str, list[Any]]
    dirty: bool = field(default=False)

    @classmethod
    def load(cls, path: Path) -> Hashes:
        """Load the cache from a file; the cache is empty if the file is missing or damaged (logs a warning)."""
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
        """Return the SHA-256 of a file, or of the names and contents of a folder's files, given the absolute path."""
        status = os.stat(name)  # noqa: PTH116 - for tens of thousands of files, creating Paths costs more than the stat
        if stat.S_ISDIR(status.st_mode):
            children = sorted((child.name, child.path) for child in os.scandir(name) if child.is_file())
            return digest({child: self.of(path) for child, path in children})
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
        """Write the cache and its own hash to disk, if there are new entries and the folder is writable."""
        if self.dirty and os.access(self.path.parent, os.W_OK):
            known = json.dumps(self.known).encode()
            replace(self.path, hashlib.sha256(known).hexdigest().encode() + b"\n" + known)


def replace(path: Path, content: bytes) -> None:
    """Replace a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
