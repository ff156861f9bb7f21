"""The digest of a stage's code.

The code of a stage consists of the syntax trees of its module and of every first-party module that it imports, directly
or indirectly, and of the data files that these modules name. A module names a data file by a string constant that is
the name of a file in the module's folder ("report.html"). Modules are located by path and never imported, so that the
parent process does not load torch.

Parsing takes most of a second, so what was read of a module is cached in the user's cache folder, and read again only
if the size, the times or the inode of the file have changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.engine import syntax
from pipeline.engine.syntax import ROOT, Parsed, module_file
from pipeline.store.artifact import sha256
from pipeline.store.canonical_json import digest
from pipeline.store.file_hashes import replace

FRESH_NS = 2_000_000_000  # a file may change again within the resolution of its times


@cache
def code_digest(module: str) -> str:
    """Return the digest of a module's first-party code, including its imports, as it was when first read.

    The first reading is that of this process or of the process that it was forked from.
    """
    found = current_digest(module)
    _cache().save()
    return found


def current_digest(module: str) -> str:
    """Return the digest of a module's code as the files are now; only files that have changed are read again."""
    return digest(module_digests(module))


def read_afresh() -> None:
    """Read the code itself from now on, not the cache on the disk, which somebody may have changed: for an audit."""
    _cache().forget()
    code_digest.cache_clear()


def module_digests(module: str) -> dict[str, str]:
    """Return the digests of a module and of all first-party modules that it imports, by name, and of their data files,
    by path."""
    found = {}
    for name in sorted(modules_of(module)):
        path = module_file(name)
        parsed = _cache().parsed(path)
        found[name] = parsed.digest
        files = (path.with_name(each) for each in parsed.names)
        found |= {str(file.relative_to(ROOT)): sha256(file) for file in files if file.is_file()}
    return found


def modules_of(module: str) -> frozenset[str]:
    """Return the names of the first-party modules that a module imports, with itself and its parent packages.

    Raises `UnresolvedImport` for a relative or star import.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or (name != module and not module_file(name).is_file()):  # a name inside a module
            continue
        found.add(name)
        waiting += _cache().parsed(module_file(name)).imports
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return frozenset(found)


class _Cache:
    """What was read of the modules, by path, with the marks (size, times, inode) of the files then."""

    def __init__(self) -> None:
        # The name has all that the content depends on: this checkout, how modules are read, and Python's syntax trees.
        name = digest([str(ROOT), sha256(Path(syntax.__file__)), list(sys.version_info[:2])])[:16]
        self._path = _folder() / f"code-{name}.json"
        self._from_disk: dict[str, list[Any]] = self._load()
        self._read: dict[str, list[Any]] = {}  # by this process or one that it was forked from
        self._dirty = False

    def parsed(self, path: Path) -> Parsed:
        """Return what a module's file says, from the cache if the file is as it was."""
        status = path.stat()
        mark = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        for known in (self._read, self._from_disk):
            entry = known.get(str(path))
            if entry is not None and entry[:4] == mark:
                return Parsed(entry[4], tuple(entry[5]), tuple(entry[6]))
        found = syntax.parse(path)
        self._read[str(path)] = [*mark, *found]
        self._dirty = True
        return found

    def forget(self) -> None:
        """Use no more what was read from the disk."""
        self._from_disk = {}

    def save(self) -> None:
        """Write the cache to disk if anything is new; without a folder that can be written, there is none."""
        if self._dirty:
            now = time.time_ns()
            known = self._from_disk | self._read
            old = {path: entry for path, entry in known.items() if now - max(entry[1:3]) > FRESH_NS}
            content = json.dumps(old).encode()
            with contextlib.suppress(OSError):
                replace(self._path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
            self._dirty = False

    def _load(self) -> dict[str, list[Any]]:
        try:
            seal, _, content = self._path.read_bytes().partition(b"\n")
        except OSError:
            return {}
        if seal.decode(errors="replace") != hashlib.sha256(content).hexdigest():
            return {}
        found: dict[str, list[Any]] = json.loads(content)
        return found


def _folder() -> Path:
    """Return the user's cache folder by the XDG rules; without a home there is none, and nothing can be written."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (given if given.is_absolute() else Path.home() / ".cache") / "acga"
    except RuntimeError:
        return Path(os.devnull)


@cache
def _cache() -> _Cache:
    return _Cache()
