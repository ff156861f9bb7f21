"""The house: imports go one way, files stay small, the parent process stays light."""

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "extractors", "models", "pipeline")
ALLOWED = {
    "data": set(),
    "models": {"data.letterbox"},
    "extractors": {"data", "models"},
    "pipeline": {"data", "models", "extractors"},
}
MODULES = sorted(path for package in PACKAGES for path in (PROJECT / package).rglob("*.py"))


def name(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """First-party modules that a file imports, `from data import a2d` as data.a2d."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert all(alias.name != "*" for alias in node.names), f"{path}: star import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {
                full if (PROJECT / full.replace(".", "/")).with_suffix(".py").exists() else str(node.module)
                for full in names
            }
    return {module for module in found if module.partition(".")[0] in PACKAGES}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_go_one_way(path: Path) -> None:
    package = name(path).partition(".")[0]
    for module in imports(path):
        allowed = ALLOWED[package] | {package}
        assert module in allowed or module.partition(".")[0] in allowed, f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", [path for path in MODULES if "recipes" in path.parts], ids=name)
def test_recipes_know_nothing_of_the_pipeline_that_calls_them(path: Path) -> None:
    of_pipeline = {module for module in imports(path) if module.startswith("pipeline")}
    assert all(module.startswith("pipeline.recipes") for module in of_pipeline), of_pipeline


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("luigi", {"pipeline.graph", "pipeline.run", "pipeline.stage"}),
        (
            "h5py",
            {
                "data.a2d",
                "data.miniature",
                "extractors.reference_reader",
                "extractors.reference_writer",
                "extractors.shards",
            },
        ),
        ("decord", {"extractors.decoding"}),
    ],
)
def test_each_library_has_its_owners(library: str, owners: set[str]) -> None:
    users = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            if any(found.partition(".")[0] == library for found in names):
                users.add(name(path))
    assert users == owners


def test_an_installation_has_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    listed = {package.strip() for package in setup["options"]["packages"].split(",")}
    assert listed == {"configs", *(".".join(path.parent.relative_to(PROJECT).parts) for path in MODULES)}


def test_no_file_is_longer_than_400_lines() -> None:
    files = [*MODULES, *(PROJECT / "tests").rglob("*.py")]
    assert {str(path): n for path in files if (n := len(path.read_text().splitlines())) > 400} == {}


def test_the_parent_process_imports_no_torch_and_no_codec() -> None:
    code = "import sys, pipeline.cli; print([m for m in ('torch', 'cv2', 'av', 'decord', 'h5py') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
