"""The digest of a stage's code.

The code of a stage consists of the syntax trees of its module and of every first-party module that it imports, directly
or indirectly, and of the data files that these modules name. A module names a data file by a string constant that is
the name of a file in the module's folder ("report.html"). Modules are located by path and never imported, so that the
parent process does not load torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.store.artifact import sha256
from pipeline.store.canonical_json import digest

ROOT = Path(__file__).resolve().parents[2]
FILE_NAME = re.compile(r"[\w-]+\.(?!py$)\w+")
PACKAGES = ("data", "extractors", "models", "pipeline")


class UnresolvedImport(ImportError):
    """Error of a relative or star import, whose code cannot be determined from the syntax tree."""


@cache
def code_digest(module: str) -> str:
    """Return the digest of a module's first-party code, including its imports, as it was when first read.

    The first reading is that of this process or of the process that it was forked from.
    """
    return current_digest(module)


def current_digest(module: str) -> str:
    """Return the digest of a module's code as the files are now; only files that have changed are read again."""
    return digest(module_digests(module))


def module_digests(module: str) -> dict[str, str]:
    """Return the digests of a module and of all first-party modules that it imports, by name, and of their data files,
    by path."""
    found = {}
    for name in sorted(modules_of(module)):
        found[name], _, files = _parsed(_file(name))
        found |= {str(path.relative_to(ROOT)): sha256(path) for path in files}
    return found


def modules_of(module: str) -> frozenset[str]:
    """Return the names of the first-party modules that a module imports, with itself and its parent packages.

    Raises `UnresolvedImport` for a relative or star import.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += _parsed(_file(name))[1]
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return frozenset(found)


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


Parsed = tuple[str, tuple[str, ...], tuple[Path, ...]]
"""The digest of a module's code, the first-party modules that it imports and the data files that it names."""


def _parsed(path: Path) -> Parsed:
    status = path.stat()
    return _read(path, status.st_mtime_ns, status.st_size)


@cache
def _read(path: Path, changed_ns: int, size: int) -> Parsed:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return digest(list(_flatten(tree))), _imports(path, tree), _data_files(path, tree)


def _data_files(path: Path, tree: ast.Module) -> tuple[Path, ...]:
    """Return the data files in a module's folder that its string constants name; Python modules are left out."""
    names = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and FILE_NAME.fullmatch(node.value)
    }
    return tuple(sorted(path.with_name(name) for name in names if path.with_name(name).is_file()))


def _imports(path: Path, tree: ast.Module) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if _ours(alias.name)]
        elif isinstance(node, ast.ImportFrom):
            if node.level or any(alias.name == "*" for alias in node.names):
                raise UnresolvedImport(f"{path}:{node.lineno}: relative and star imports cannot be followed")
            if node.module and _ours(node.module):
                submodules = [f"{node.module}.{alias.name}" for alias in node.names]
                found += [node.module, *(name for name in submodules if _file(name).is_file())]
    return tuple(found)


def _ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def _flatten(node: ast.AST) -> Iterator[Any]:
    """Yield a syntax tree as nested lists, without positions, docstrings and empty fields.

    Python versions differ in the empty fields.
    """
    yield type(node).__name__
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list) and value and _is_docstring(node, value[0]):
            value = value[1:]
        if value is None or value == [] or name in ("kind", "type_comment", "type_ignores", "ctx"):
            continue
        yield [name, _plain(value)]


def _plain(value: Any) -> Any:
    if isinstance(value, ast.AST):
        return list(_flatten(value))
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return [type(value).__name__, repr(value)]


def _is_docstring(parent: ast.AST, first: ast.AST) -> bool:
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return (
        isinstance(parent, holders)
        and isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
