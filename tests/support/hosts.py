"""Hosts on one machine: network namespaces with names of their own on one bridge, which share the file system."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import Acga

PORT = 8082
BRIDGE = "acga-bridge"
LUIGID = "import sys; from luigi.cmdline import luigid; luigid(sys.argv[1:])"


@dataclass(frozen=True)
class Host:
    """A network namespace with an address; commands run in it under its name."""

    name: str
    address: str

    def start(self, command: Sequence[str], folder: Path, **environment: str) -> "subprocess.Popen[str]":
        """Start a command in a session of its own; its outputs are pipes."""
        named = f'hostname {self.name}; exec "$@"'
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", named, "sh", *map(str, command)],
            cwd=folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, acga: Acga, store: Path, scheduler: str, *arguments: object) -> "subprocess.Popen[str]":
        """Start `acga run` on tiny."""
        command = acga.command("run", acga.config, "--store", store, "--scheduler", scheduler, "--json", *arguments)
        return self.start(command, acga.project)


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Make hosts that reach each other; skips the test where that is not allowed."""
    if shutil.which("ip") is None or os.getuid() != 0:
        pytest.skip("hosts as network namespaces need root and the command ip (iproute2)")
    with ExitStack() as stack:
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        stack.callback(run, "ip", "link", "del", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        made = []
        for index in range(count):
            host = Host(f"host-{index}", f"10.83.0.{index + 1}")
            run("ip", "netns", "add", host.name)
            stack.callback(run, "ip", "netns", "del", host.name)
            run("ip", "link", "add", f"acga-{index}", "type", "veth", "peer", "name", "eth0", "netns", host.name)
            run("ip", "link", "set", f"acga-{index}", "master", BRIDGE, "up")
            for settings in (("addr", "add", f"{host.address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
                run("ip", "-n", host.name, *settings)
            run("ip", "-n", host.name, "link", "set", "lo", "up")
            made.append(host)
        yield made


@contextmanager
def luigid(host: Host, folder: Path) -> Iterator[str]:
    """A scheduler on a host, with the configuration that the docs give; yields its address."""
    command = [sys.executable, "-W", "ignore", "-c", LUIGID, "--port", str(PORT), "--address", host.address]
    config = Path(__file__).resolve().parents[2] / "configs" / "luigi.cfg"
    process = host.start(command, folder, LUIGI_CONFIG_PATH=str(config))
    try:
        wait_for(host, process)
        yield f"http://{host.address}:{PORT}"
    finally:
        process.kill()
        process.communicate()


def wait_for(host: Host, process: "subprocess.Popen[str]") -> None:
    """Wait until the scheduler on a host answers."""
    program = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=1)"
    url = f"http://{host.address}:{PORT}/static/visualiser/index.html"
    for _ in range(100):
        asked = host.start([sys.executable, "-c", program, url], Path("/"))
        asked.communicate()
        if asked.returncode == 0:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise TimeoutError(url)


def kill(process: "subprocess.Popen[str]") -> None:
    """SIGKILL to a command and all that it started: the host is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.communicate()


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
