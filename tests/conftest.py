"""What the tests share."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from commands import PROJECT, Acga, Run
from filelock import FileLock


def pytest_configure() -> None:
    """Let each of the processes that run tests side by side compute in one thread; commands have their own threads."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips and official files beside the project; its tests are skipped where it is absent."""
    folder = PROJECT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


@pytest.fixture(scope="session")
def acga() -> Acga:
    return Acga()


@pytest.fixture(scope="session")
def finished(acga: Acga, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of tiny that tests read and never change; the processes of pytest-xdist share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    document = folder / "document.json"
    with FileLock(f"{folder}.lock"):
        if not document.exists():
            ran = json.dumps(acga.run(folder / "store"))
            document.write_text(ran, encoding="utf-8")
    return Run(folder / "store", json.loads(document.read_text(encoding="utf-8")))


@pytest.fixture
def store(finished: Run, tmp_path: Path) -> Path:
    """A copy of the finished store, to be changed."""
    return Path(shutil.copytree(finished.store, tmp_path / "store"))


@pytest.fixture
def miniature(finished: Run, tmp_path: Path) -> Path:
    """A copy of tiny's raw data set, to be changed."""
    (folder,) = (path for path in (finished.store / "miniature").iterdir() if path.is_dir())
    return Path(shutil.copytree(folder, tmp_path / "miniature"))
