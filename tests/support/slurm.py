"""A real SLURM on this machine: a controller and two nodes, each a slurmd of its own, whose files lie in one folder."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

NODES = ("node-a", "node-b")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
CONFIG = """
ClusterName=acga
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1
{nodes}
PartitionName=all Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A running cluster."""

    folder: Path

    def run(self, *command: object) -> str:
        """Run a command of SLURM; returns what it printed."""
        done = subprocess.run(list(map(str, command)), env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def submit(self, script: Path, *arguments: object, folder: Path) -> str:
        """Submit a batch script whose output goes to FOLDER/%j.out; returns the job's number."""
        output = ("--output", folder / "%j.out", "--chdir", folder)
        return self.run("sbatch", "--parsable", *output, script, *arguments).strip()

    def wait(self, job: str, seconds: float = 400) -> None:
        """Wait until no part of a job is left in the queue."""
        deadline = time.monotonic() + seconds
        while self.run("squeue", "--noheader", "--jobs", job, "--states", "all", "--format", "%T").split() and any(
            state not in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
            for state in self.run("squeue", "--noheader", "--jobs", job, "--states", "all", "--format", "%T").split()
        ):
            assert time.monotonic() < deadline, self.run("squeue")
            time.sleep(1)


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """Start a cluster; skips the test where SLURM is not installed, or may not be started."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"SLURM needs root and slurm-wlm with munge, without {', '.join(missing) or 'root'} here")
    folder.mkdir()
    ports = free_ports(1 + len(NODES))
    host = socket.gethostname()
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={os.cpu_count()} State=UNKNOWN"
        for name, port in zip(NODES, ports[1:], strict=True)
    )
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    text = CONFIG.format(folder=folder, host=host, port=ports[0], nodes=nodes, names=",".join(NODES))
    (folder / "slurm.conf").write_text(text)
    cluster = Slurm(folder)
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed", "log")]
    with ExitStack() as stack:

        def start(*command: str) -> None:
            with (folder / f"{Path(command[0]).name}.out").open("ab") as output:
                process = subprocess.Popen(command, env=cluster.environment, stdout=output, stderr=output)
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files)
        wait_for(lambda: (folder / "munge.socket").exists(), folder)
        start("slurmctld", "-D")
        for node in NODES:
            start("slurmd", "-D", "-N", node)
        wait_for(lambda: idle(cluster), folder)
        yield cluster


def idle(cluster: Slurm) -> bool:
    """Whether all nodes wait for work."""
    done = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--format", "%T"], env=cluster.environment, capture_output=True, text=True
    )
    return done.stdout.split() == ["idle"] * len(NODES)


def wait_for(condition, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        logs = [path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log"))]
        assert time.monotonic() < deadline, logs
        time.sleep(0.2)


def free_ports(count: int) -> Sequence[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]
