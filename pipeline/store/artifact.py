"""The artifact store: each artifact is stored under its key and published atomically.

    <store>/<stage>/<key[:16]>/manifest.json     written last, as a hard link, so that the first writer wins
    <store>/<stage>/<key[:16]>/attempt-*/        the files of one build; the manifest names the published folder
    <store>/<stage>/<key[:16]>/resume/           partial results of an interrupted build; deleted after publication
    <store>/<stage>/<key[:16]>/lock              held exclusively by a builder, shared by readers; only saves work
    <store>/<stage>/<key[:16]>/evicted           the files were deleted to save space; a rebuild must give equal content
    <store>/<stage>/<key[:16]>/pin               `acga gc` does not delete this artifact

A crash publishes nothing. If two processes build the same key, they must produce the same content, or the second one
fails. Deleting an artifact removes its manifest first, so that an interrupted deletion leaves no valid artifact.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from extractors.shards.fsync import fsync
from pipeline.store import locks
from pipeline.store.canonical_json import canonical, digest

log = logging.getLogger(__name__)


class StoreError(RuntimeError):
    """Error of a store that cannot be used as it is; the message gives the path, the problem and the remedy."""


class ContentMismatch(StoreError):
    """Error of a rebuild whose content differs from the content published under the same key.

    Either the stage is not deterministic or a file was changed.
    """


class DamagedManifest(StoreError):
    """Error of a manifest that was damaged or changed after it was written."""


@dataclass(frozen=True)
class Artifact:
    """The location of one stage's result for one key, whether or not it has been published."""

    store: Path
    stage: str
    key: str

    @property
    def folder(self) -> Path:
        return self.store / self.stage / self.key[:16]

    @property
    def resume(self) -> Path:
        return self.folder / "resume"

    @property
    def evicted(self) -> bool:
        """Return whether the files were deleted on purpose; the manifest still records their content hashes."""
        return (self.folder / "evicted").exists()

    @property
    def pinned(self) -> bool:
        """Return whether a user asked to keep this artifact."""
        return (self.folder / "pin").exists()

    def manifest(self) -> dict[str, Any] | None:
        """Return the manifest, or None if nothing was published or the manifest is damaged (logs a warning)."""
        try:
            return self.recorded()
        except DamagedManifest as error:
            _warn_once(f"{error}; the artifact counts as not there and is built again where it is needed")
            return None

    def recorded(self) -> dict[str, Any] | None:
        """Return the manifest, or None if nothing was published. Raises `DamagedManifest` if it is damaged."""
        path = self.folder / "manifest.json"
        try:
            manifest = sealed(path)
        except FileNotFoundError:
            return None
        if manifest["key"] != self.key or manifest["stage"] != self.stage:
            raise DamagedManifest(f"{path} was changed after it was written")
        return manifest

    def content(self) -> str | None:
        """Return the content hash that the manifest records, or None if nothing was published."""
        manifest = self.manifest()
        return None if manifest is None else manifest["content"]

    def complete(self) -> bool:
        """Return whether the artifact is published and all its files exist with the recorded sizes."""
        manifest = self.manifest()
        if manifest is None:
            return False
        attempt = self.folder / manifest["attempt"]
        return all(_size(attempt / name) == file["bytes"] for name, file in manifest["files"].items())

    def files(self) -> Path:
        """Return the folder of the published files. Raises `StoreError` if nothing was published."""
        manifest = self.manifest()
        if manifest is None:
            raise StoreError(f"{self.folder} holds no published artifact; run its stage first")
        return self.folder / str(manifest["attempt"])

    def damaged(self) -> list[str]:
        """Return the names of the published files whose SHA-256 differs from the manifest; reads all the files."""
        manifest = self.manifest()
        if manifest is None:
            return []
        attempt = self.folder / manifest["attempt"]
        return [name for name, file in manifest["files"].items() if sha256(attempt / name) != file["sha256"]]

    def drop(self, names: Iterable[str]) -> None:
        """Delete published files but keep the manifest, so that a rebuild must produce the recorded content."""
        for name in names:
            (self.files() / name).unlink(missing_ok=True)

    def evict(self) -> None:
        """Delete all published files and mark the artifact as evicted. The caller must hold the exclusive lock."""
        manifest = self.manifest()
        if manifest is None:
            return
        (self.folder / "evicted").write_text("files dropped by `acga gc --evict`; built again where they are needed\n")
        self.drop(manifest["files"])

    def delete(self) -> None:
        """Delete the whole artifact, the manifest first. The caller must hold the exclusive lock."""
        (self.folder / "manifest.json").unlink(missing_ok=True)
        fsync(self.folder)
        shutil.rmtree(self.folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the exclusive lock for building; if another process holds it, log which one and wait.

        The kernel releases the lock if this process dies.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locks.held(self.folder / "lock", locks.EXCLUSIVE, f"{self.stage} waits for {{}}, which builds it"):
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold a shared lock for reading, so that the artifact is neither deleted nor evicted meanwhile."""
        waiting = f"{self.stage}: its reader waits for {{}}, which builds it"
        with locks.held(self.folder / "lock", locks.SHARED, waiting):
            yield

    @contextmanager
    def unused(self) -> Iterator[bool]:
        """Yield whether no process builds or reads the artifact; if so, hold the exclusive lock. Does not wait."""
        with locks.free(self.folder / "lock") as free:
            yield free

    def begin(self) -> Path:
        """Create and return a new, empty attempt folder."""
        return Path(tempfile.mkdtemp(prefix="attempt-", dir=self.folder))

    def abandon(self, attempt: Path) -> None:
        """Delete an attempt folder, unless it is the published one."""
        manifest = self.manifest()
        if manifest is None or manifest["attempt"] != attempt.name:
            shutil.rmtree(attempt, ignore_errors=True)

    def publish(self, attempt: Path, files: dict[str, dict[str, Any]], facts: dict[str, Any]) -> None:
        """Publish an attempt as the artifact of this key.

        `files` maps each file name below `attempt` to its "bytes", "sha256" and "content"; `facts` holds the other
        fields of the manifest. Raises `ContentMismatch` if different content is already published under this key.
        """
        content = digest({name: file["content"] for name, file in files.items()})
        manifest = {
            "stage": self.stage,
            "key": self.key,
            "content": content,
            "attempt": attempt.name,
            "files": files,
            **facts,
        }
        for name in files:
            fsync(attempt / name)
        for folder in {attempt, *((attempt / name).parent for name in files)}:
            fsync(folder)
        draft = self.folder / f"{attempt.name}.manifest"
        draft.write_bytes(canonical({**manifest, "seal": digest(manifest)}))
        fsync(draft)
        try:
            os.link(draft, self.folder / "manifest.json")
        except FileExistsError:
            self._second(attempt, draft, content)
        finally:
            draft.unlink(missing_ok=True)
        (self.folder / "evicted").unlink(missing_ok=True)
        fsync(self.folder)
        shutil.rmtree(self.resume, ignore_errors=True)

    def _second(self, attempt: Path, draft: Path, content: str) -> None:
        """Publish an attempt when a manifest exists already.

        The published artifact is kept, unless its manifest is damaged or files are missing; then this attempt replaces
        it. Raises `ContentMismatch` if the contents differ.
        """
        published = self.manifest()
        if published is not None and published["content"] != content:
            shutil.rmtree(attempt)
            raise ContentMismatch(_mismatch(self, published, content))
        if published is not None and self.complete():
            shutil.rmtree(attempt)
            return
        draft.replace(self.folder / "manifest.json")
        if published is not None:
            shutil.rmtree(self.folder / published["attempt"], ignore_errors=True)


def sealed(path: Path) -> dict[str, Any]:
    """Return the manifest in a file, without its seal.

    Raises `FileNotFoundError`, and `DamagedManifest` if the file does not have its seal or the seal is not that of the
    other fields.
    """
    text = path.read_bytes()
    try:
        manifest: dict[str, Any] = json.loads(text)
        seal, own = manifest.pop("seal"), digest(manifest)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedManifest(f"{path} is damaged ({error})") from error
    if seal != own or not {"stage", "key", "content", "attempt", "files"} <= manifest.keys():
        raise DamagedManifest(f"{path} was changed after it was written")
    return manifest


def at(path: Path) -> dict[str, Any] | None:
    """Return the manifest at a path in a store, or None if it is damaged (logs a warning)."""
    artifact = of(path)
    return None if artifact is None else artifact.manifest()


def of(path: Path) -> Artifact | None:
    """Return the artifact that a manifest in a store belongs to, or None if the manifest's key cannot be read."""
    try:
        key = json.loads(path.read_bytes())["key"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Artifact(path.parents[2], path.parents[1].name, str(key))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, or "" if the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _mismatch(artifact: Artifact, published: dict[str, Any], content: str) -> str:
    """Return the error message that says why a rebuild cannot be published and what to do."""
    found = (
        f"{artifact.stage} {artifact.key[:16]}: built again, the content is {content[:16]}, but"
        f" {published['content'][:16]} was published under the same key"
    )
    if "adopted" in published:
        return f"{found} by adoption: the changed code gives other results; undo it by `acga adopt --revoke`"
    return (
        f"{found}; the stage is not deterministic on this machine, or a package gives other values than then"
        f" (the manifest lists them); delete {artifact.folder} to go on with the new content"
    )


@cache
def _warn_once(text: str) -> None:
    log.warning("%s", text)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
