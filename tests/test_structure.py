"""The house: imports go one way, files stay small, the parent process stays light."""

import ast
import graphlib
import importlib
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from setuptools.config.setupcfg import read_configuration

from pipeline.commands import options
from pipeline.config import Config
from pipeline.engine.stage import Stage
from pipeline.graph import STAGES, OfStream

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "extractors", "models", "pipeline")
ALLOWED = {
    "data": set(),
    "models": {"data.letterbox", "data.masks", "data.wording"},
    "extractors": {"data", "models"},
    "pipeline": {"data", "models", "extractors"},
}
FLOORS = {  # of each package's modules and folders, from the ground up: each uses only what stands before it
    "data": (
        *("wording", "strict_json", "run_lengths", "records", "letterbox", "masks"),
        *("defects", "readers", "datasets", "published", "miniature"),
    ),
    "extractors": ("cores", "video", "text", "shards", "visual", "authors", "comparison"),
    "models": (
        *("spatial", "backbones", "layers", "attention", "fast", "plain", "decoder"),
        *("losses", "acga", "evaluation", "files", "training"),
    ),
    "pipeline": (
        *("interrupts", "store", "sections", "pages", "experiments", "config", "stages", "engine", "graph"),
        *("runs", "operations", "audit", "commands", "cli", "entry", "api"),
    ),
}
OF_EITHER_STREAM = {"weights", "flow_weights"}  # a stage of one stream reads one of them
LUIGI_RUNS = ("run", "building", "workers")
MODULES = sorted(path for package in PACKAGES for path in (PROJECT / package).rglob("*.py"))


def name(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports(path: Path) -> set[str]:
    """First-party modules that a file imports, `from data import a2d` as data.readers.a2d."""
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


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_room_uses_only_rooms_below_it(path: Path) -> None:
    package, _, inside = name(path).partition(".")
    floors, own = FLOORS[package], inside.partition(".")[0]
    for module in imports(path):
        of, _, below = module.partition(".")
        if own and of == package and below:
            used = below.partition(".")[0]
            assert floors.index(used) <= floors.index(own), f"{name(path)} imports {module}"


def test_there_is_no_import_cycle() -> None:
    """Not even by imports inside functions or for type checkers alone."""
    tuple(graphlib.TopologicalSorter({name(path): imports(path) for path in MODULES}).static_order())


def test_nothing_imports_the_public_interface() -> None:
    assert [name(path) for path in MODULES if "pipeline.api" in imports(path)] == []


def test_no_folder_has_more_than_a_dozen_modules() -> None:
    counts = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {str(folder): count for folder, count in counts.items() if count > 12} == {}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_a_stage_is_given_the_sections_that_the_graph_says_it_reads(stage: type[Stage]) -> None:
    """The graph names them for the key, without importing the stage; the stage's `Settings` give them their types."""
    settings = importlib.import_module(stage.implementation).Settings
    reads: dict[str, set[str]] = {}
    for entry in stage.reads:
        section, _, key = entry.partition(".")
        keys = {key} if key else set(Config.model_fields[section].annotation.model_fields)
        reads.setdefault(section, set()).update(keys)
    if issubclass(stage, OfStream):
        reads["visual"].discard("modality")
    assert {section: set(field.annotation.model_fields) for section, field in settings.model_fields.items()} == (
        {section: keys | OF_EITHER_STREAM if keys & OF_EITHER_STREAM else keys for section, keys in reads.items()}
    )


@pytest.mark.parametrize("path", [path for path in MODULES if "stages" in path.parts], ids=name)
def test_no_signature_of_a_stage_says_any(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            notes = [argument.annotation for argument in (*node.args.args, *node.args.kwonlyargs)] + [node.returns]
            names = {found.id for note in notes if note for found in ast.walk(note) if isinstance(found, ast.Name)}
            assert "Any" not in names, f"{name(path)}.{node.name}"


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("luigi", {"pipeline.graph", "pipeline.engine.stage", *(f"pipeline.runs.{name}" for name in LUIGI_RUNS)}),
        (
            "h5py",
            {
                "data.readers.a2d",
                "data.miniature.a2d_layout",
                "extractors.authors.reader",
                "extractors.authors.writer",
                "extractors.shards.shard",
            },
        ),
        ("decord", {"extractors.video.decoder_worker"}),
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
    include = read_configuration(PROJECT / "setup.cfg", find_others=True)["options"]["packages"]
    assert set(include) == {"configs", *(".".join(path.parent.relative_to(PROJECT).parts) for path in MODULES)}


def test_no_file_is_longer_than_400_lines() -> None:
    files = [*MODULES, *(PROJECT / "tests").rglob("*.py")]
    assert {str(path): n for path in files if (n := len(path.read_text().splitlines())) > 400} == {}


def test_the_parent_process_imports_no_torch_and_no_codec() -> None:
    libraries = ("torch", "cv2", "av", "decord", "h5py")
    code = f"import sys, pipeline.runs.run; print([m for m in {libraries} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_neither_luigi_nor_numpy_nor_pydantic() -> None:
    libraries = ("luigi", "numpy", "pydantic", "torch", "h5py")
    run = "import sys; from pipeline.cli import main; main(['--help'])"
    code = f"{run}; print([m for m in {libraries} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_commands_know_the_names_of_all_stages() -> None:
    assert tuple(stage.__name__ for stage in STAGES) == options.STAGES
