"""The store: artifacts named by their key, published all at once or not at all.

    <store>/<stage>/<key[:16]>/manifest.json     published last, by a hard link: the first writer wins
    <store>/<stage>/<key[:16]>/attempt-*/        the files, in the folder that the manifest names
    <store>/<stage>/<key[:16]>/resume/           what a killed build may continue from; gone after publication
    <store>/<stage>/<key[:16]>/lock              held while building; saves work, the link keeps it right

A crash publishes nothing. Two builders of one key must agree on the content, or the second one fails.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extractors.durable import flush
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

    def manifest(self) -> dict[str, Any] | None:
        """What was published, or None. Raises `DamagedManifest` where it cannot be what was written."""
        path = self.folder / "manifest.json"
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            manifest = json.loads(text)
            seal = manifest.pop("seal")
        except (ValueError, KeyError, AttributeError) as error:
            raise DamagedManifest(f"{path} is damaged ({error}); delete {self.folder} to build it again") from error
        if seal != digest(manifest) or manifest["key"] != self.key:
            raise DamagedManifest(f"{path} was changed after it was written; delete {self.folder} to build it again")
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

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The exclusive right to build; waits for another builder and says for whom. Freed by the kernel on death."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("%s waits for %s, which builds it", self.stage, os.pread(handle, 200, 0).decode().strip())
                fcntl.flock(handle, fcntl.LOCK_EX)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
            yield
        finally:
            os.close(handle)

    def begin(self) -> Path:
        """A new, empty attempt folder."""
        return Path(tempfile.mkdtemp(prefix="attempt-", dir=self.folder))

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
        flush(self.folder)
        shutil.rmtree(self.resume, ignore_errors=True)

    def _second(self, attempt: Path, draft: Path, content: str) -> None:
        """Another publication is there: it must agree, and it stays unless its files are gone."""
        published = self.content()
        if published != content:
            shutil.rmtree(attempt)
            raise ContentMismatch(
                f"{self.stage} {self.key[:16]}: built again, the content is {content[:16]}, but {published} was"
                f" published under the same key; the stage is not deterministic on this machine"
            )
        if self.complete():
            shutil.rmtree(attempt)
        else:
            draft.replace(self.folder / "manifest.json")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
