"""Faults: processes killed at any moment, a full disk, a read-only store, want of memory, a lost scheduler.

Whatever happens, the next run goes on, and in the end the files are those of an undisturbed run.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from commands import PROJECT, Acga, Finished, Run
from namespaces import in_namespace
from stores import EVERYTHING, data_files, journals

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

HOOK = PROJECT / "tests" / "faults"
WORKERS = 2
STAGES = tuple(EVERYTHING)
MOMENTS = (
    r"(open|os.rename) {}/\w+/attempt-\w+/",
    r"open {}/\w+/attempt-\w+\.manifest",
    r"os.link {}/\w+/manifest.json",
)
"""Events of a stage: a file is begun or moved, its manifest is written, it is committed."""


class Struck:
    """Runs of tiny on one store, each with a fault at an exact place."""

    def __init__(self, acga: Acga, store: Path, logs: Path) -> None:
        self.acga, self.store, self.logs = acga, store, logs
        self.faults: list[str] = []

    def run(self, match: str, nth: int, do: str) -> Finished:
        """One run; where it met the fault the event is added to `faults`."""
        log = self.logs / f"{len(list(self.logs.iterdir()))}.log"
        settings = {"STORE": str(self.store), "LOG": str(log), "MATCH": match, "NTH": str(nth), "DO": do}
        paths = {"PYTHONPATH": os.pathsep.join((str(PROJECT), str(HOOK)))}
        done = subprocess.run(
            self.acga.command("run", self.acga.config, "--store", self.store, "--workers", WORKERS, "--json"),
            cwd=PROJECT,
            env=os.environ | paths | {f"FAULT_{name}": value for name, value in settings.items()},
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=300,
        )
        lines = log.read_text().splitlines()
        self.faults += [line[2:].removesuffix("  <- fault") for line in lines if line.endswith("<- fault")]
        return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def struck(acga: Acga, tmp_path: Path) -> Callable[[Path], Struck]:
    def begin(store: Path) -> Struck:
        logs = tmp_path / f"{store.name}-logs"
        logs.mkdir()
        return Struck(acga, store, logs)

    return begin


def assert_as_undisturbed(acga: Acga, store: Path, finished: Run, kills: int) -> None:
    """The next run completes, with the bytes of an undisturbed run; no task was built twice, and at most one was lost
    by each worker in each kill."""
    assert acga.run(store)["ok"]
    assert data_files(store) == data_files(finished.store)
    built = Counter(
        (event["stage"], event["task"]) for run in journals(store) for event in run if event["event"] == "executed"
    )
    assert set(built.values()) == {1}
    begun = len(list(store.glob("*/*/attempt-*/")))
    assert begun <= sum(EVERYTHING.values()) + WORKERS * kills


@pytest.mark.parametrize("stage", STAGES)
def test_kills_in_every_stage_at_every_kind_of_moment(
    acga: Acga, finished: Run, struck: Callable[[Path], Struck], store: Path, stage: str
) -> None:
    shutil.rmtree(store / stage)
    shutil.rmtree(store / "journal")
    chain = struck(store)
    moments = [moment.format(stage) for moment in MOMENTS]
    if stage == "TrainedModel":  # its checkpoints first: once training is over there are none
        moments = [r"open TrainedModel/\w+/resume/", r"os.rename TrainedModel/\w+/resume/", *moments]
    for moment in moments:
        chain.run(moment, 1, "kill")
        assert re.match(moment, chain.faults[-1])
    assert acga.run(store)["executed"].keys() <= {stage}
    assert data_files(store) == data_files(finished.store)
    attempts = list((store / stage).glob("*/attempt-*/"))
    assert len(attempts) <= EVERYTHING[stage] + WORKERS * len(moments)


def test_kills_at_any_write_of_a_chain_of_runs(
    acga: Acga, finished: Run, struck: Callable[[Path], Struck], tmp_path: Path
) -> None:
    generator, kills = random.Random(0), 0
    for number in range(4):
        chain = struck(tmp_path / f"store{number}")
        for match in (r"os.rename miniature/", r"catalogue/", r"running/")[number : number + 1]:
            chain.run(match, 1, "kill")
        for _ in range(4):
            chain.run(".", generator.randrange(1, 250), "kill")
        kills += len(chain.faults)
        assert_as_undisturbed(acga, chain.store, finished, len(chain.faults))
    assert kills >= 12


def test_kills_at_random_times(acga: Acga, finished: Run, tmp_path: Path) -> None:
    generator, kills = random.Random(1), 0
    for chain in range(4):
        store = tmp_path / f"store{chain}"
        for of_chain in range(8):
            process = begun(acga, store)
            if of_chain % 4 == 3:  # in the middle of a shard: its file is there in part
                grown(store, process)
            else:
                time.sleep(generator.uniform(0.3, 2.5))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
            process.wait()
        assert_as_undisturbed(acga, store, finished, 8)
    assert kills >= 24


def begun(acga: Acga, store: Path) -> "subprocess.Popen[bytes]":
    """A run in a process group of its own."""
    command = acga.command("run", acga.config, "--store", store, "--workers", WORKERS)
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=PROJECT, start_new_session=True, stdout=nowhere, stderr=nowhere)


def grown(store: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a shard is written at this moment, or the run is over."""
    before = set(store.rglob("*.h5.part"))
    while process.poll() is None:
        if any(path not in before for path in store.rglob("*.h5.part")):
            return


@pytest.fixture(scope="module")
def written(acga: Acga, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What an undisturbed run writes, in order, each place in the code once."""
    logs = tmp_path_factory.mktemp("logs")
    recorded = Struck(acga, tmp_path_factory.mktemp("recorded") / "store", logs)
    recorded.run(".", 0, "")
    (log,) = logs.iterdir()
    events = [line[2:] for line in log.read_text().splitlines()]
    return list(dict.fromkeys(site(event) for event in events if not event.startswith(TAKING_NO_SPACE)))


@pytest.mark.parametrize("stage", ["before any stage", *STAGES])
def test_a_disk_that_is_full_at_any_write_stops_the_run_with_a_clear_word(
    acga: Acga, finished: Run, struck: Callable[[Path], Struck], store: Path, written: list[str], stage: str
) -> None:
    sites = [match for match in written if f" {stage}" in match.replace("\\", "")]
    if stage == "before any stage":
        shutil.rmtree(store)
        sites = [match for match in written if not any(f" {name}" in match.replace("\\", "") for name in STAGES)]
    else:
        shutil.rmtree(store / stage)
    chain = struck(store)
    for match in sites:
        done = chain.run(match, 1, "full")
        assert "Traceback" not in done.errors, (match, done.errors)
        if done.code:
            assert done.code == 3 and "the disk is full" in done.errors.splitlines()[-1], (match, done.errors[-500:])
    assert len(chain.faults) >= len(sites) - 2, "all but what a run can do without"
    acga.run(store)
    assert data_files(store) == data_files(finished.store)


TAKING_NO_SPACE = ("os.remove", "os.rmdir", "open logs", "os.mkdir logs")  # logs are for people alone


def site(event: str) -> str:
    """The place in the code that an event stands for, as a regular expression: the same for every shard and key."""
    text = re.escape(event)
    for found, general in (
        (r"[0-9a-f]{16}", r"\\w+"),
        (r"attempt\\-\w{8}", r"attempt-\\w+"),
        (r"part\\-\w{8}", r"part-\\w+"),
        (r"(set/).*", r"\1"),
        (r"\d{8}T\S*jsonl", r".*jsonl"),
        (r"\d+\\-\d+\\\.(json|part)", r"\\d+-\\d+.\1"),
        (r"\\\.\d+\\\.part", r".\\d+.part"),
        (r"events\S*", r"events"),
    ):
        text = re.sub(found, general, text)
    return text


SMALL_DISK = """
import json, subprocess, sys
folder, *command = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True)
for size in [300, 700, 1200, 2000, 2800, 3600, 4400, 65536]:
    subprocess.run(["mount", "-o", f"remount,size={size}k", folder], check=True)
    done = subprocess.run(command, capture_output=True, text=True)
    print(json.dumps([size, done.returncode, done.stderr]), flush=True)
    if done.returncode == 0:
        break
subprocess.run(["cp", "-a", f"{folder}/store", f"{folder}-kept"], check=True)
"""


def test_on_a_disk_that_grows_every_run_goes_a_little_further(acga: Acga, finished: Run, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = in_namespace(SMALL_DISK, disk, *acga.command("run", acga.config, "--store", disk / "store"))
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(runs) >= 4 and [code for _, code, _ in runs] == [3] * (len(runs) - 1) + [0]
    for size, _, errors in runs[:-1]:
        assert "the disk is full" in errors.splitlines()[-1], (size, errors[-800:])
        assert "Traceback" not in errors, (size, errors)
    kept = disk.with_name("disk-kept")
    acga.run(kept)
    assert data_files(kept) == data_files(finished.store)


READ_ONLY = """
import subprocess, sys
folder, *command = sys.argv[1:]
subprocess.run(["mount", "--bind", folder, folder], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
sys.exit(subprocess.run(command).returncode)
"""


def test_a_read_only_store_can_be_looked_at_and_says_so(acga: Acga, finished: Run, store: Path) -> None:
    acga.run(store)  # its catalogue says where the files lie now
    (missing,) = (store / "Report").glob("*/manifest.json")
    options = (acga.config, "--store", store)
    assert in_namespace(READ_ONLY, store, *acga.command("plan", *options)).returncode == 0
    done = in_namespace(READ_ONLY, store, *acga.command("run", *options))
    assert done.returncode == 0 and "report: " in done.stdout, done.stderr
    missing.unlink()
    assert in_namespace(READ_ONLY, store, *acga.command("status", *options)).returncode == 1
    done = in_namespace(READ_ONLY, store, *acga.command("run", *options))
    assert done.returncode == 3
    assert "read-only" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert acga.run(store)["executed"] == {"Report": 1}
    assert data_files(store) == data_files(finished.store)


def test_a_worker_that_the_kernel_kills_is_replaced(acga: Acga, finished: Run, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with acga.saying("TextFeatures train", "run", acga.config, "--store", store, "--json") as process:
        victims = 0
        for _ in range(40):
            tasks = [each for each in psutil.Process(process.pid).children(recursive=True) if is_task(each)]
            if tasks and victims < 2:
                with suppress(psutil.NoSuchProcess):  # it has just ended
                    tasks[0].kill()
                    victims += 1
            time.sleep(0.1)
        assert victims == 2
        assert process.wait(timeout=120) in (0, 3)
    assert acga.run(store)["ok"]
    assert data_files(store) == data_files(finished.store)


def is_task(process: psutil.Process) -> bool:
    """Whether a process was forked from the fork server."""
    try:
        parent = process.parent()
        return parent is not None and "forkserver" in " ".join(parent.cmdline())
    except psutil.Error:
        return False


@contextmanager
def luigid(folder: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A scheduler of its own process, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = "from luigi.cmdline import luigid; import sys; luigid(sys.argv[1:])"
    command = [sys.executable, "-W", "ignore", "-c", program, "--port", str(port), "--address", "127.0.0.1"]
    with (folder / "luigid.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{address}/static/visualiser/index.html", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        yield address, process
    finally:
        process.kill()
        process.wait()


def test_a_lost_scheduler_ends_the_run_and_the_next_completes(acga: Acga, finished: Run, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with (
        luigid(tmp_path) as (address, scheduler),
        acga.saying("Masks", "run", acga.config, "--store", store, "--scheduler", address) as process,
    ):
        scheduler.kill()
        begun = time.monotonic()
        assert process.stderr is not None
        errors = process.stderr.read()
        assert process.wait(timeout=120) in (0, 3)
        assert time.monotonic() - begun < 90
        told = [line for line in errors.splitlines() if line.startswith("acga: ")]
        assert "Traceback" not in errors and len(told) == (process.returncode == 3), errors
    with luigid(tmp_path) as (address, _):
        acga.run(store, "--scheduler", address)
    assert data_files(store) == data_files(finished.store)
    shutil.rmtree(store)
