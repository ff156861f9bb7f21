"""What a Python module's syntax tree says of its code: its digest, its first-party imports, the data files it names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.store.canonical_json import digest

ROOT = Path(__file__).resolve().parents[2]
FILE_NAME = re.compile(r"[\w-]+\.(?!py$)\w+")
PACKAGES = ("data", "extractors", "models", "pipeline")


class UnresolvedImport(ImportError):
    """Error of a relative or star import, whose code cannot be determined from the syntax tree."""


class Parsed(NamedTuple):
    """The digest of a module's code, the first-party modules that it may import, and names that may be data files."""

    digest: str
    imports: tuple[str, ...]
    names: tuple[str, ...]


def parse(path: Path) -> Parsed:
    """Read a module. Raises `UnresolvedImport` for a relative or star import."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return Parsed(digest(list(_flatten(tree))), _imports(path, tree), _names(tree))


def module_file(module: str) -> Path:
    """Return the path where a first-party module lies, whether or not it exists."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _names(tree: ast.Module) -> tuple[str, ...]:
    """Return the string constants that may name a data file in the module's folder."""
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return tuple(sorted({value for value in constants if isinstance(value, str) and FILE_NAME.fullmatch(value)}))


def _imports(path: Path, tree: ast.Module) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if _ours(alias.name)]
        elif isinstance(node, ast.ImportFrom):
            if node.level or any(alias.name == "*" for alias in node.names):
                raise UnresolvedImport(f"{path}:{node.lineno}: relative and star imports cannot be followed")
            if node.module and _ours(node.module):
                found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
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
