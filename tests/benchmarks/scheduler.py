"""What scheduling costs a task, with Luigi's scheduler in the process of the run and as a luigid."""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

from measured import acga, machine

REPEATS = 5
LUIGID = "import sys; from luigi.cmdline import luigid; luigid(sys.argv[1:])"


def main() -> None:
    """Measure, and print what was found beside the goal."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder, luigid(Path(folder)) as address:
        for name, arguments in (("in the process", ()), ("luigid", ("--scheduler", address))):
            found = [overhead(Path(folder) / f"{name}{number}", *arguments) for number in range(REPEATS)]
            print(f"scheduler {name}: {median(found):.2f} s a task beside its own work (goal: below 0.3 s)")


def overhead(store: Path, *arguments: str) -> float:
    """Seconds from the end of a task to the end of the next one, without the next one's own work."""
    settings = ("--set", "dataset.shards=12", "--until", "Masks", "--workers", 1)
    acga("run", "configs/tiny.toml", "--store", store, "--json", *settings, *arguments)
    (journal,) = (store / "journal").glob("*.jsonl")
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    return median(b["time"] - a["time"] - b["seconds"] for a, b in pairwise(events))


@contextmanager
def luigid(folder: Path) -> Iterator[str]:
    """A scheduler of its own process; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-c", LUIGID, "--port", str(port), "--address", "127.0.0.1"]
    with (folder / "luigid.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/static/visualiser/index.html", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


if __name__ == "__main__":
    main()
