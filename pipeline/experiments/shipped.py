"""The experiments that are shipped: TOML files in the package `configs`, each of which is given by its name.

The comment at the head of such a file says what the experiment is. After its claim come lines that begin with
"Published:", "Cost:" or "Needs:".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import configs
from pipeline.experiments.errors import ConfigError
from pipeline.experiments.suggestions import nearest

FOLDER = Path(configs.__file__).resolve().parent
SUFFIX = ".toml"
PARTS = ("base", "small")
"""The names of files that experiments extend, and that are no experiments by themselves."""
LABELS = ("Published", "Cost", "Needs")


@dataclass(frozen=True)
class Header:
    """The comment at the head of an experiment's file: its claim, published scores, cost and the data that it needs."""

    claim: str
    published: str
    cost: str
    needs: str


def files() -> dict[str, Path]:
    """Return all shipped files by name, with those that are only extended."""
    return {path.stem: path for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}


def experiments() -> dict[str, Path]:
    """Return the files of the shipped experiments by name."""
    return {name: path for name, path in files().items() if name not in PARTS}


def is_name(text: str) -> bool:
    """Return whether a text has the form of an experiment's name: no slash, and no suffix .toml."""
    return bool(text) and "/" not in text and "\0" not in text and not text.endswith(SUFFIX)


def find(path: Path) -> Path:
    """Return the file of an experiment, which is given by a path or by the name of a shipped one.

    A name stands for the shipped experiment if there is no such file in the working folder. Raises `ConfigError` if no
    such experiment is shipped.
    """
    return path if path.is_file() or not is_name(str(path)) else named(str(path))


def named(name: str) -> Path:
    """Return the file of the shipped experiment of that name. Raises `ConfigError` if there is none."""
    known = experiments()
    if name in known:
        return known[name]
    if name in PARTS:
        raise ConfigError(f"config {name}: no experiment by itself, others extend it; {_list(known)}")
    meant = nearest(name, known)
    hint = f"did you mean {meant}? " if meant else ""
    raise ConfigError(f"config {name}: no such file, and no shipped experiment of that name; {hint}{_list(known)}")


def title(source: str) -> str:
    """Return the path of a config's file as users know it: a shipped one by its name."""
    path = Path(source)
    return f"{path.stem} (shipped)" if path.parent == FOLDER else source


def header(path: Path) -> Header:
    """Read the comment at the head of an experiment's file."""
    texts: dict[str, list[str]] = {"Claim": []}
    label = "Claim"
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#").strip()
        before, colon, after = text.partition(": ")
        if colon and before in LABELS:
            label, text = before, after
        texts.setdefault(label, []).append(text)
    claim, published, cost, needs = (" ".join(texts.get(name, ())) for name in ("Claim", *LABELS))
    return Header(claim, published, cost, needs)


def _list(known: dict[str, Path]) -> str:
    return f"shipped are {', '.join(known)}"
