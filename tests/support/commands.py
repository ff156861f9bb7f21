"""The real command `acga`, run as users run it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import command_server

PROJECT = Path(__file__).resolve().parents[2]


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


@dataclass(frozen=True)
class Acga:
    """Runs the real command in a process of its own, in the project's folder or that of a copy."""

    project: Path = PROJECT

    @classmethod
    def copied(cls, folder: Path) -> "Acga":
        """The command of a copy of the project, whose files may be changed."""
        for package in ("configs", "data", "extractors", "models", "pipeline"):
            shutil.copytree(PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        return cls(folder)

    @property
    def config(self) -> Path:
        """Tiny."""
        return self.project / "configs" / "tiny.toml"

    def copy_config(self, folder: Path) -> None:
        """Copy tiny, and what it extends, into a folder."""
        for name in ("tiny", "small", "base"):
            shutil.copy(self.config.with_name(f"{name}.toml"), folder)

    def __call__(self, *arguments: object, timeout: float = 300) -> Finished:
        if self.project == PROJECT:
            return Finished(*command_server.run([str(argument) for argument in arguments], self.place, timeout))
        done = subprocess.run(self.command(*arguments), **self.place, capture_output=True, text=True, timeout=timeout)
        return Finished(done.returncode, done.stdout, done.stderr)

    def run(self, store: Path, *arguments: object) -> dict[str, Any]:
        """`acga run` on tiny, which must succeed: its JSON document."""
        done = self("run", self.config, "--store", store, "--json", *arguments)
        assert done.code == 0, done.errors
        return done.document

    @contextmanager
    def saying(self, begins: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
        """A command that has said a line that begins so; at the end it and all that it started are killed."""
        process = subprocess.Popen(
            self.command(*arguments),
            **self.place,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        with process.stderr:
            assert any(line.startswith(begins) for line in process.stderr), f"it ended without saying {begins!r}"
            yield process
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @property
    def place(self) -> dict[str, Any]:
        """Where its processes run, for `subprocess`."""
        return {"cwd": self.project, "env": os.environ | {"PYTHONPATH": str(self.project)}}

    def command(self, *arguments: object) -> Sequence[str]:
        return [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]


@dataclass(frozen=True)
class Run:
    """A finished run of tiny and the document that it printed."""

    store: Path
    document: dict[str, Any]
