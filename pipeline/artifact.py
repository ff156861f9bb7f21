"""The store: artifacts named by their key, published all at once or not at all.

    <store>/<stage>/<key[:16]>/manifest.json     published last, by a hard link: the first writer wins
    <store>/<stage>/<key[:16]>/attempt-*/        the files, in the folder that the manifest names
    <store>/<stage>/<key[:16]>/resume/           what a killed build may continue from; gone after publication
    <store>/<stage>/<key[:16]>/lock              held while building, shared while read; the link keeps it right
    <store>/<stage>/<key[:16]>/evicted           the files were dropped to save space; a rebuild must give the content
    <store>/<stage>/<key[:16]>/pin               `acga gc` leaves it alone

A crash publishes nothing. Two builders of one key must agree on the content, or the second one fails. An artifact is
deleted manifest first, so that what is cut short is no artifact any more.
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

from extractors.durable import flush
from pipeline import locks
from pipeline.key import canonical, digest

log = logging.getLogger(__name__)


class StoreError(RuntimeError):
    """The store cannot be used as it is: which path, what was found, what to do."""


class ContentMismatch(StoreError):
    """A rebuild of a published key gave other content: the stage is not deterministic, or a file was changed."""


class DamagedManifest(StoreError):
    """A manifest that is not the one that was written."""


@dataclass(frozen=True)
class Artifact:
    """The place of one stage's result for one key."""

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
        """Whether its files were dropped on purpose; what they held is still known."""
        return (self.folder / "evicted").exists()

    @property
    def pinned(self) -> bool:
        """Whether somebody asked for it to be kept."""
        return (self.folder / "pin").exists()

    def manifest(self) -> dict[str, Any] | None:
        """What was published, or None; a damaged manifest counts as none, which is said."""
        try:
            return self.recorded()
        except DamagedManifest as error:
            _warn_once(f"{error}; the artifact counts as not there and is built again where it is needed")
            return None

    def recorded(self) -> dict[str, Any] | None:
        """What was published, or None. Raises `DamagedManifest` where it cannot be what was written."""
        path = self.folder / "manifest.json"
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            manifest = json.loads(text)
            seal = manifest.pop("seal")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise DamagedManifest(f"{path} is damaged ({error})") from error
        if seal != digest(manifest) or manifest["key"] != self.key or manifest["stage"] != self.stage:
            raise DamagedManifest(f"{path} was changed after it was written")
        return manifest

    def content(self) -> str | None:
        """The content hash that the manifest records, or None where nothing was published."""
        manifest = self.manifest()
        return None if manifest is None else manifest["content"]

    def complete(self) -> bool:
        """Whether it is published and all its files are there in their sizes."""
        manifest = self.manifest()
        if manifest is None:
            return False
        attempt = self.folder / manifest["attempt"]
        return all(_size(attempt / name) == file["bytes"] for name, file in manifest["files"].items())

    def files(self) -> Path:
        """The folder of the published files."""
        manifest = self.manifest()
        if manifest is None:
            raise StoreError(f"{self.folder} holds no published artifact; run its stage first")
        return self.folder / manifest["attempt"]

    def damaged(self) -> list[str]:
        """The published files that are not byte for byte what the manifest says, by name; reads them all."""
        manifest = self.manifest()
        if manifest is None:
            return []
        attempt = self.folder / manifest["attempt"]
        return [name for name, file in manifest["files"].items() if sha256(attempt / name) != file["sha256"]]

    def drop(self, names: Iterable[str]) -> None:
        """Delete published files; the manifest stays, so that a rebuild must give what it records."""
        for name in names:
            (self.files() / name).unlink(missing_ok=True)

    def evict(self) -> None:
        """Delete all published files and say that this was on purpose. The caller holds the exclusive right."""
        manifest = self.manifest()
        if manifest is None:
            return
        (self.folder / "evicted").write_text("files dropped by `acga gc --evict`; built again where they are needed\n")
        self.drop(manifest["files"])

    def delete(self) -> None:
        """Delete all of it, the manifest first. The caller holds the exclusive right."""
        (self.folder / "manifest.json").unlink(missing_ok=True)
        flush(self.folder)
        shutil.rmtree(self.folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The exclusive right to build; waits for another builder and says for whom. Freed by the kernel on death."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locks.held(self.folder / "lock", locks.EXCLUSIVE, f"{self.stage} waits for {{}}, which builds it"):
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The right to read it: it is neither deleted nor evicted meanwhile."""
        waiting = f"{self.stage}: its reader waits for {{}}, which builds it"
        with locks.held(self.folder / "lock", locks.SHARED, waiting):
            yield

    @contextmanager
    def unused(self) -> Iterator[bool]:
        """Whether nobody builds or reads it, and if so the exclusive right to it. Waits for nobody."""
        with locks.free(self.folder / "lock") as free:
            yield free

    def begin(self) -> Path:
        """A new, empty attempt folder."""
        return Path(tempfile.mkdtemp(prefix="attempt-", dir=self.folder))

    def abandon(self, attempt: Path) -> None:
        """Delete an attempt, unless it is the published one."""
        manifest = self.manifest()
        if manifest is None or manifest["attempt"] != attempt.name:
            shutil.rmtree(attempt, ignore_errors=True)

    def publish(self, attempt: Path, files: dict[str, dict[str, Any]], facts: dict[str, Any]) -> None:
        """Make an attempt the artifact of this key.

        `files` gives bytes, sha256 and content of each file under `attempt`; `facts` is whatever else the manifest
        holds. Raises `ContentMismatch` if another content is published under this key already.
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
            flush(attempt / name)
        for folder in {attempt, *((attempt / name).parent for name in files)}:
            flush(folder)
        draft = self.folder / f"{attempt.name}.manifest"
        draft.write_bytes(canonical({**manifest, "seal": digest(manifest)}))
        flush(draft)
        try:
            os.link(draft, self.folder / "manifest.json")
        except FileExistsError:
            self._second(attempt, draft, content)
        finally:
            draft.unlink(missing_ok=True)
        (self.folder / "evicted").unlink(missing_ok=True)
        flush(self.folder)
        shutil.rmtree(self.resume, ignore_errors=True)

    def _second(self, attempt: Path, draft: Path, content: str) -> None:
        """Another publication is there: it must agree, and it stays unless it is damaged or its files are gone."""
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


def at(path: Path) -> dict[str, Any] | None:
    """What a manifest in a store records; None where it is damaged, which is said."""
    artifact = of(path)
    return None if artifact is None else artifact.manifest()


def of(path: Path) -> Artifact | None:
    """The artifact that a manifest in a store belongs to; None where it is too damaged to say."""
    try:
        key = json.loads(path.read_bytes())["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Artifact(path.parents[2], path.parents[1].name, str(key))


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _mismatch(artifact: Artifact, published: dict[str, Any], content: str) -> str:
    """Why what was built again cannot be published, and what to do."""
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
