"""What the documentation says is what an installed wheel does, in a folder that is empty."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as rle

from pipeline.cli import COMMANDS

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("configs", "data", "extractors", "models", "pipeline")
PAGES = ("README.md", "docs/data.md")
NO, USAGE = 1, 2
NEEDS_DATA = re.compile(r"(?<!--from )\b(a2d|jhmdb)\b|my\.toml")  # what of the documentation needs a download
WORDS = {"CONFIG": "tiny", "CONFIG...": "tiny", "STAGE": "Samples", "NAME": "tiny", "miniature": "tiny"}
WORDS |= {"FILE": "new.toml", "DIR": "new", "A": "exported", "B": "exported", "VIDEO": "dog.mp4", "TEXT...": "a dog"}


def documented() -> Iterator[str]:
    """The commands of the pages' code blocks and of the README's table, each once, without comments."""
    found = {}
    for page in PAGES:
        inside = False
        for line in (PROJECT / page).read_text().splitlines():
            if line.startswith("```"):
                inside = not inside
            elif inside and (said := re.match(r"(?:\$ )?(?:\.venv/bin/)?acga ([a-z].*?)(?: +#.*)?$", line)):
                found[said[1]] = None
            elif row := re.match(r"\| `acga ([^`]+)` \|", line):
                found[row[1]] = None
    yield from found


@dataclass(frozen=True)
class Installed:
    """An installed wheel, and a folder in which `acga run tiny` and `acga export tiny` are done."""

    site: Path
    folder: Path

    def __call__(self, place: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the console script in a folder, with nothing of the project in reach."""
        environment = os.environ | {"PYTHONPATH": str(self.site)}
        command = [sys.executable, str(self.site / "bin" / "acga"), *arguments]
        return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the project, in which a build leaves its files."""
    source = tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    pip("wheel", str(source), "--no-deps", "--no-build-isolation", "--wheel-dir", str(source / "dist"))
    (built,) = (source / "dist").glob("*.whl")
    return built


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    pip("install", str(wheel), "--no-deps", "--no-index", "--target", str(site))
    found = Installed(site, folder)
    for arguments in (("run", "tiny"), ("export", "tiny", "--to", "exported")):
        done = found(folder, *arguments)
        assert done.returncode == 0, done.stderr
    return found


@pytest.fixture
def place(installed: Installed, tmp_path: Path) -> Path:
    """A folder with nothing but the finished store and what the documented commands are given."""
    for name in ("store", "exported"):
        (tmp_path / name).symlink_to(installed.folder / name)
    video = min((installed.folder / "store" / "miniature").glob("*/Release/clips320H/[!-]*.mp4"))
    shutil.copy(video, tmp_path / "dog.mp4")
    disc = rle.encode(np.asfortranarray(np.eye(32, dtype=np.uint8)))
    mask = {"size": disc["size"], "counts": disc["counts"].decode()}
    record = {"image_id": "one", "category_id": 1, "segmentation": mask}
    annotation = record | {"id": 1, "iscrowd": 0, "area": 32, "bbox": [0, 0, 32, 32]}
    images, categories = [{"id": "one", "height": 32, "width": 32}], [{"id": 1, "name": "dummy_class"}]
    truth = {"images": images, "annotations": [annotation], "categories": categories}
    (tmp_path / "GT.json").write_text(json.dumps(truth))
    (tmp_path / "PRED.json").write_text(json.dumps([record | {"score": 1.0}]))
    return tmp_path


@pytest.mark.slow
def test_a_wheel_has_every_module_and_data_file(wheel: Path) -> None:
    expected = {
        str(path.relative_to(PROJECT))
        for package in PACKAGES
        for path in (PROJECT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {"configs/a2d.toml", "configs/luigi.cfg", "pipeline/pages/report.html"} < expected
    assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} == expected


@pytest.mark.slow
@pytest.mark.parametrize("command", list(documented()))
def test_a_documented_command_works_in_an_empty_folder(installed: Installed, place: Path, command: str) -> None:
    """What needs a download ends with one line that says what is missing."""
    name, *rest = shlex.split(command)
    arguments = [name, *(WORDS.get(word, word) for word in rest)]
    if name == "import":
        arguments[1] = "exported"
    if name == "segment":
        arguments += ["--config", "tiny"]
    if "--video" in arguments:
        arguments[-1] = spoken_of(installed.folder / "store")
    if "dataset.root=practice" in arguments:
        assert installed(place, "miniature", "tiny", "--to", "practice").returncode == 0
    if "my.toml" in arguments and name != "init":
        assert installed(place, "init", "my.toml", "--from", "a2d").returncode == 0
    done = installed(place, *arguments)
    assert "Traceback" not in done.stderr
    if NEEDS_DATA.search(command) and name not in ("init", "config"):
        assert done.returncode == (NO if name == "check" else USAGE), done.stderr
        assert "no such" in (done.stdout if name == "check" else done.stderr.splitlines()[-1])
    elif name == "adopt":
        assert done.returncode == USAGE and "nothing to adopt" in done.stderr
    else:
        assert done.returncode == 0, done.stderr


def spoken_of(store: Path) -> str:
    """A video of tiny that has sentences, by an id that is no option."""
    (path,) = (store / "miniature").glob("*/text_annotations/a2d_annotation.txt")
    return next(line.partition(",")[0] for line in path.read_text().splitlines()[1:] if not line.startswith("-"))


@pytest.mark.slow
def test_the_installed_command_is_the_wheels_own(installed: Installed, tmp_path: Path) -> None:
    code = "import configs, pipeline.cli; print(configs.__file__, pipeline.cli.__file__)"
    environment = os.environ | {"PYTHONPATH": str(installed.site)}
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert all(name.startswith(str(installed.site)) for name in found.stdout.split()), found


def test_the_readme_has_every_command_in_its_table() -> None:
    rows = re.findall(r"^\| `acga ([a-z]+)[^`]*` \|", (PROJECT / "README.md").read_text(), flags=re.MULTILINE)
    assert set(rows) == {name for section in COMMANDS.values() for name in section}
