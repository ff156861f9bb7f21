"""The tables of a config: a TOML file over the file that it extends, with overrides, and the origin of each value."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.experiments import shipped
from pipeline.experiments.errors import ConfigError

Key = tuple[str, ...]


@dataclass(frozen=True)
class Layers:
    """Tables that were merged in order, and for each value the layer that it is from: a file, or "--set KEY=VALUE"."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)

    def origin(self, key: Key) -> str | None:
        """Return the layer that a value is from; of a table, the last of its values' layers. None if it is nowhere."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        below = [source for of_key, source in self.origins.items() if of_key[: len(key)] == key]
        return below[-1] if below else None

    def merge(self, source: str, table: dict[str, Any]) -> None:
        """Merge a file's table over the values, key by key."""
        for key in [key for key, value in _leaves((), table) if value != {} or self.origin(key) is None]:
            self._note(source, key)
        _merge(self.values, table)

    def override(self, override: str) -> None:
        """Replace one value by that of `section.key=value`. Raises `ConfigError`."""
        if override.encode(errors="replace").decode() != override:
            raise ConfigError(f"--set {override!r}: not UTF-8; give it in the encoding of the terminal")
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or len(parts) < 2 or not all(parts):
            raise ConfigError(f"--set {override}: expected section.key=value, for example training.lr=0.001")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        table = self.values
        for part in parts[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {override}: {part} is a value, not a section")
        table[parts[-1]] = value
        for replaced in (tuple(parts), *(below for below, _ in _leaves(tuple(parts), value))):
            self._note(f"--set {override}", replaced)

    def _note(self, source: str, key: Key) -> None:
        """Note where the value of a key is from, and forget those that it replaces: of tables above or values below."""
        for known in list(self.origins):
            shorter = min(len(known), len(key))
            if known[:shorter] == key[:shorter]:
                del self.origins[known]
        self.origins[key] = source


def read(path: Path, overrides: Iterable[str]) -> Layers:
    """Read a TOML file over the files that it extends, and apply the overrides.

    Raises `ConfigError` if a file cannot be read, is not valid TOML or extends itself.
    """
    found = Layers()
    for file, table in reversed(list(_tables(path))):
        found.merge(str(file), table)
    for override in overrides:
        found.override(override)
    return found


def _tables(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the table of a file, that of the file that it extends, and so on."""
    seen: set[Path] = set()
    wanted: Path | None = path
    while wanted is not None:
        seen.add(wanted.resolve())
        table = _table(wanted)
        base = table.pop("extends", None)
        yield wanted, table
        wanted = None if base is None else _extended(wanted, base, seen)


def _extended(path: Path, base: object, seen: set[Path]) -> Path:
    """Return the file that a config extends: another one of its folder or, by a name without suffix, a shipped one."""
    refusal = ConfigError(
        f"config {path}: extends = {base!r}; give the name of another file in {path.parent}, or that of a shipped"
        f" config without suffix: {', '.join(shipped.files())}"
    )
    if not isinstance(base, str) or base in ("", ".", "..") or Path(base).name != base or "\0" in base:
        raise refusal
    found = path.with_name(base)
    if shipped.is_name(base) and not found.is_file():
        if base not in shipped.files():
            raise refusal
        found = shipped.files()[base]
    if found.resolve() in seen:
        raise refusal
    return found


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = path.suffix == shipped.SUFFIX and path.stem in shipped.experiments()
        hint = f", or {path.stem} for the shipped experiment" if known else ""
        raise ConfigError(
            f"config {path}: cannot be read ({error.strerror}); give the path of a TOML file{hint}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path}: not valid TOML: {error}") from error


def _merge(below: dict[str, Any], above: dict[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = value


def _leaves(key: Key, value: Any) -> Iterator[tuple[Key, Any]]:
    """Yield each value below a key that is no table, or an empty one, and its key."""
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _leaves((*key, name), below)
    else:
        yield key, value
