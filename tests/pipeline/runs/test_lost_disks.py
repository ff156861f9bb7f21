"""A network disk that is cut off and a full /dev/shm: one line that says what to do, and the next run completes."""

import errno
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from commands import PROJECT, Acga, Run
from namespaces import in_namespace
from stores import data_files

pytestmark = pytest.mark.slow

SOURCE = PROJECT / "tests" / "faults" / "cut_disk.c"
LAST_SECOND = 6.0  # by which a run of tiny has begun most of its stages


@pytest.fixture(scope="module")
def cutter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that cuts a disk off."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("library") / "cut_disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN], ids=errno.errorcode.get)
def test_a_disk_that_is_cut_off_ends_the_run_in_one_line(
    acga: Acga, finished: Run, cutter: Path, tmp_path: Path, error: int
) -> None:
    store, flag, chance = tmp_path / "store", tmp_path / "flag", random.Random(error)
    settings = {"CUT_FLAG": flag, "CUT_BELOW": store, "CUT_ERROR": error, "LD_PRELOAD": cutter}
    environment = {name: str(value) for name, value in settings.items()}
    cuts = 0
    for number in range(3):
        process = subprocess.Popen(
            acga.command("run", acga.config, "--store", store),
            cwd=PROJECT,
            env=os.environ | {"PYTHONPATH": str(PROJECT)} | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(chance.uniform(LAST_SECOND / 3 * number, LAST_SECOND / 3 * (number + 1)))
        flag.touch()
        _, errors = process.communicate(timeout=120)
        flag.unlink()
        assert process.returncode in (0, 3), errors
        if process.returncode == 3:
            cuts += 1
            assert "Traceback" not in errors, errors
            complaints = [line for line in errors.splitlines() if line.startswith("acga: ")]
            assert complaints == errors.splitlines()[-1:]
            assert os.strerror(error) in complaints[0] and "run again" in complaints[0], complaints
    assert cuts
    acga.run(store)
    assert data_files(store) == data_files(finished.store)


FULL_SHARED_MEMORY = """
import subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/dev/shm"], check=True)
with open("/dev/shm/left", "wb") as file:
    file.write(bytes(4096))
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_full_dev_shm_is_told_with_its_remedy(acga: Acga, store: Path, command: str) -> None:
    shutil.rmtree(store / "Masks")
    done = in_namespace(FULL_SHARED_MEMORY, *acga.command(command, acga.config, "--store", store))
    assert done.returncode == 3, done.stderr
    *others, complaint = done.stderr.splitlines()
    assert complaint.startswith("acga: no semaphore can be made in /dev/shm (No space left on device)")
    assert "--shm-size" in complaint and "run again" in complaint
    assert not [line for line in others if "Traceback" in line or line.startswith("acga: ")], done.stderr
    assert acga(command, acga.config, "--store", store).code == 0
