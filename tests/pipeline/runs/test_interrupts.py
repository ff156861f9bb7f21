"""SIGINT and SIGTERM at any moment: one line, the code of the signal, no process left, and a store that goes on."""

import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import psutil
import pytest
from commands import PROJECT, Acga, Run
from stores import data_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

REPETITIONS = int(os.environ.get("ACGA_REPETITIONS", "1"))
SECONDS = 5.0  # that the end may take
CODES = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
WAYS = tuple(product(CODES, (False, True)))  # each signal to the process alone and to its group
MOMENTS = (*[(0.0, 1.5)] * 14, *[(1.5, 4.5)] * 13, *[(5.0, 12.0)] * 3)
PROGRESS = re.compile(
    r"visual\.weights = 'seeded'.*|the trunk has random weights.*|\S.*: done in [\d.]+ s|\S.*: \d+ of \d+.*"
    r"|epoch \d+ of \d+.*|\d+ of \d+ tasks done.*|resuming after .*|waiting for .*"
    r"||\*+|Setting OMP_NUM_THREADS environment variable .*"  # what torchrun says as it starts
)


@dataclass(frozen=True)
class Command:
    """A command at work, in a session of its own; what it starts inherits its mark in the environment."""

    process: "subprocess.Popen[str]"
    mark: str

    def strike(self, number: signal.Signals, group: bool, times: int = 1) -> bool:
        """Send a signal and check the end; False if the command was done before."""
        begun = time.monotonic()
        for _ in range(times):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number) if group else self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        took = time.monotonic() - begun
        if self.process.returncode == 0:
            return False
        code, word = CODES[number]
        assert self.process.returncode == code, errors
        *others, last = errors.splitlines()
        assert last == f"acga: {word}; run the same command to go on"
        assert [line for line in others if not PROGRESS.fullmatch(line)] == [], errors
        assert took < SECONDS
        assert self.left(begun + SECONDS) == []
        return True

    def left(self, deadline: float) -> list[list[str]]:
        """The processes that are left of it at the latest then."""
        while (found := list(self._processes())) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def _processes(self) -> Iterator[list[str]]:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("ACGA_TEST_MARK") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    yield process.cmdline()


Begin = Callable[..., Command]


@pytest.fixture
def begin(acga: Acga) -> Iterator[Begin]:
    """Starts a command; returns when it answers signals: Python's own start comes before."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as in the background of a script
    begun: list[Command] = []

    def begin(*arguments: object) -> Command:
        mark = f"{os.getpid()}-{len(begun)}"
        process = subprocess.Popen(
            acga.command(*arguments),
            cwd=PROJECT,
            env=os.environ | {"PYTHONPATH": str(PROJECT), "ACGA_TEST_MARK": mark},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(Command(process, mark))
        while process.poll() is None and not answers(process.pid):
            time.sleep(0.001)
        return begun[-1]

    yield begin
    for command in begun:
        with suppress(ProcessLookupError):
            os.killpg(command.process.pid, signal.SIGKILL)
        command.process.wait()


def answers(process: int) -> bool:
    """Whether a process handles SIGTERM, which Python does not by itself."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("seed", range(REPETITIONS))
def test_interrupts_at_any_moment_of_runs(acga: Acga, finished: Run, begin: Begin, tmp_path: Path, seed: int) -> None:
    store, chance, struck = tmp_path / "store", random.Random(seed), 0
    moments = [(chance.uniform(*span), *WAYS[number % 4]) for number, span in enumerate(MOMENTS)]
    chance.shuffle(moments)
    for seconds, number, group in moments:
        command = begin("run", acga.config, "--store", store)
        with suppress(subprocess.TimeoutExpired):
            command.process.wait(timeout=seconds)
        if command.strike(number, group):
            struck += 1
        else:
            assert data_files(store) == data_files(finished.store)
            shutil.rmtree(store)
    assert struck >= len(MOMENTS) * 2 // 3
    acga.run(store)
    assert data_files(store) == data_files(finished.store)


TOGETHER = ("--set", "training.processes=2", "--set", "training.epochs=300")
COMMANDS = {
    "plan": (("plan", "CONFIG"), 0.6),
    "status": (("status", "CONFIG", "--watch", "--set", "training.lr=0.5"), 3.0),
    "check": (("check", "CONFIG"), 3.0),
    "audit": (("audit", "CONFIG", "--rebuild", "all"), 4.0),
    "segment": (("segment", "VIDEO", "--query", "a dog", "--to", "MASKS", "--config", "CONFIG"), 2.5),
    "training": (("run", "CONFIG", *TOGETHER), 10.0),
}
"""Commands, and the seconds for which each is at work at least."""


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for temporary files; a short path, since a socket may lie there."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_at_once(
    acga: Acga, begin: Begin, store: Path, tmp_path: Path, scratch: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(scratch))
    video = next(iter(sorted(store.glob("miniature/*/Release/clips320H/*.mp4"))))
    words, longest = COMMANDS[name]
    places = {"CONFIG": acga.config, "VIDEO": video, "MASKS": tmp_path / "masks" / "of video"}
    arguments = [places.get(word, word) for word in words]
    chance, struck = random.Random(name), 0
    for number, group in WAYS:
        command = begin(*arguments, "--store", store)
        time.sleep(chance.uniform(0, longest))
        struck += command.strike(number, group, times=3)
        shutil.rmtree(tmp_path / "masks" / "of video", ignore_errors=True)
    assert struck >= 2
    assert not list(tmp_path.glob("masks/*")), "a part of the result is left"
    assert not [path for path in scratch.iterdir() if path.name.startswith(("acga-audit-", "pymp-"))]


def test_a_signal_that_the_shell_ignores_stays_ignored(acga: Acga, finished: Run) -> None:
    """As in the background of a script, where Ctrl-C is meant for another program."""
    command = acga.command("status", acga.config, "--store", finished.store)
    script = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    process = subprocess.Popen(script, **acga.place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not answers(process.pid):
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "") and "Report" in output
