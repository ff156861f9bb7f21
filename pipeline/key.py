"""Identity by content: canonical JSON and the digest of a recipe's code.

A recipe's code is the syntax tree of its module and of every first-party module that it imports, directly or not.
Files are found by path and never imported, so the parent process stays free of torch.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("data", "extractors", "models", "pipeline")


class UnresolvedImport(ImportError):
    """A recipe imports a first-party module in a form whose code cannot be followed."""


def canonical(value: Any) -> bytes:
    """JSON that is equal for equal values: sorted keys, no blanks, UTF-8; refuses NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


@cache
def code_digest(recipe: str) -> str:
    """Digest of all first-party code that a recipe ("package.module:function") can reach, as this process first saw it
    (or the one that it was forked from)."""
    return current_digest(recipe)


def current_digest(recipe: str) -> str:
    """The same as the files are now; those that have not changed since they were read are not read again."""
    return digest(module_digests(recipe))


def module_digests(recipe: str) -> dict[str, str]:
    """Digests of the first-party modules that a recipe can reach, by name."""
    return {name: _parsed(_file(name))[0] for name in sorted(modules_of(recipe.partition(":")[0]))}


def modules_of(module: str) -> frozenset[str]:
    """Names of the first-party modules that a module imports, itself and the packages around it included."""
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


def _parsed(path: Path) -> tuple[str, tuple[str, ...]]:
    status = path.stat()
    return _read(path, status.st_mtime_ns, status.st_size)


@cache
def _read(path: Path, changed_ns: int, size: int) -> tuple[str, tuple[str, ...]]:
    """The digest of a file's code and the first-party modules that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return digest(list(_flatten(tree))), _imports(path, tree)


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
    """The tree as nested lists: no positions, no docstrings, no empty fields (Python versions differ in those)."""
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
