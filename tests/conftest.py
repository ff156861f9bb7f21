"""What the tests share."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips and official files beside the project; its tests are skipped where it is absent."""
    folder = PROJECT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


@dataclass(frozen=True)
class Finished:
    """One `acga` command that has ended."""

    code: int
    output: str
    errors: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as the one JSON document that it must be; what went wrong where there is none."""
        assert self.output, self.errors
        return json.loads(self.output)


class Acga:
    """Runs the real command in a process of its own, in the project's folder."""

    config = PROJECT / "configs" / "tiny.toml"

    def __call__(self, *arguments: object, timeout: float = 300) -> Finished:
        done = subprocess.run(self.command(*arguments), cwd=PROJECT, capture_output=True, text=True, timeout=timeout)
        return Finished(done.returncode, done.stdout, done.stderr)

    def run(self, store: Path, *arguments: object) -> dict[str, Any]:
        """`acga run` on tiny, which must succeed: its JSON document."""
        done = self("run", self.config, "--store", store, "--json", *arguments)
        assert done.code == 0, done.errors
        return done.document

    def command(self, *arguments: object) -> Sequence[str]:
        return [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]


@pytest.fixture(scope="session")
def acga() -> Acga:
    return Acga()


@dataclass(frozen=True)
class Run:
    """A finished run of tiny and the document that it printed."""

    store: Path
    document: dict[str, Any]


@pytest.fixture(scope="session")
def finished(acga: Acga, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of tiny that tests read and never change."""
    store = tmp_path_factory.mktemp("finished") / "store"
    return Run(store, acga.run(store))


@pytest.fixture
def store(finished: Run, tmp_path: Path) -> Path:
    """A copy of the finished store, to be changed."""
    return Path(shutil.copytree(finished.store, tmp_path / "store"))


@pytest.fixture
def miniature(finished: Run, tmp_path: Path) -> Path:
    """A copy of tiny's raw data set, to be changed."""
    (folder,) = (path for path in (finished.store / "miniature").iterdir() if path.is_dir())
    return Path(shutil.copytree(folder, tmp_path / "miniature"))
