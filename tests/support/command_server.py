"""Runs the command `acga` in forked processes, so that a test does not pay for the imports of every command.

A server process has imported what commands import; it forks one process for each command, which is the real one,
`pipeline.cli.main` with its own arguments, files and exit code. Commands may run side by side. The forkserver of a
command, from which its tasks are forked, is forked as well instead of started: it is a child of the command that has
imported the same libraries and shares nothing else with it.
"""

import atexit
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing import util
from pathlib import Path

IMPORTED = (
    *("torch", "torch._dynamo", "luigi", "pydantic", "numpy", "h5py", "hdf5plugin", "cv2", "pycocotools.mask"),
    *("jinja2", "click", "scipy", "tqdm", "psutil", "safetensors.torch"),
)
REQUEST_BYTES = 1 << 20


def run(arguments: Sequence[str], place: Mapping[str, object], timeout: float) -> tuple[int, str, str]:
    """Run one command; its exit code, standard output and standard error.

    `place` has the working directory (cwd) and the environment (env). Raises TimeoutExpired.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with own, other:
            request = json.dumps({"arguments": arguments, "cwd": str(place["cwd"]), "env": place["env"]}).encode()
            files = [output.fileno(), errors.fileno(), other.fileno()]
            socket.send_fds(_server(), [request], files)
            process = int(own.recv(64))
            own.settimeout(timeout)
            try:
                code = int(own.recv(64))
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(arguments), timeout) from None
        for file in (output, errors):
            file.seek(0)
        return code, output.read().decode(), errors.read().decode()


@cache
def _server() -> socket.socket:
    """The connection to the server of this process, which ends with this process."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, REQUEST_BYTES)
    with other:
        root = Path(__file__).resolve().parents[2]
        environment = os.environ | {"PYTHONPATH": str(root)}
        command = [sys.executable, __file__, str(other.fileno())]
        server = subprocess.Popen(
            command, cwd=root, env=environment, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL
        )
    atexit.register(server.wait)
    atexit.register(own.close)  # first, which ends the server
    return own


def serve(connection: socket.socket) -> list[str]:
    """Fork a process for each request. Returns in the forked processes alone, with the arguments of the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        content, files, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 3)
        if not content:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.close()
            return _command(json.loads(content), *files)
        for file in files:
            os.close(file)


def _command(request: dict, output: int, errors: int, answers: int) -> list[str]:
    """Fork once more: this process tells the command's process id and exit code; returns in the other one."""
    if process := os.fork():
        os.write(answers, str(process).encode())
        os.write(answers, str(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])).encode())
        os._exit(0)
    os.close(answers)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    util.spawnv_passfds = _forked_forkserver(util.spawnv_passfds)
    arguments: list[str] = request["arguments"]
    return arguments


Spawn = Callable[[bytes, list, list[int]], int]


def _forked_forkserver(spawn: Spawn) -> Spawn:
    """Fork the process that becomes the forkserver; what `multiprocessing` calls to start it, or another process."""
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = os.fork()
    if process == 0:
        own.close()
        program, files, _, _ = socket.recv_fds(other, REQUEST_BYTES, 2)
        other.close()
        if program:
            request = json.loads(program)
            high = [fcntl.fcntl(file, fcntl.F_DUPFD, 100) for file in files]
            for file, wanted in zip(high, request["files"], strict=True):
                os.dup2(file, wanted)
            exec(request["program"], {})
        os._exit(0)
    other.close()

    def instead(path: bytes, arguments: list, files: list[int]) -> int:
        program = os.fsdecode(arguments[-1])
        if "multiprocessing.forkserver" not in program:
            return spawn(path, arguments, files)
        socket.send_fds(own, [json.dumps({"program": program, "files": files}).encode()], files)
        own.close()
        return process

    return instead


if __name__ == "__main__":
    import importlib

    from pipeline import cli
    from pipeline.engine.key import code_digest, read_afresh
    from pipeline.runs import forkserver_preload

    for module in (*IMPORTED, forkserver_preload.__name__):
        importlib.import_module(module)
    for commands in cli.COMMANDS.values():
        for name, _ in commands.values():
            importlib.import_module(f"pipeline.commands.{name}")
    read_afresh()  # so that an audit finds all of it read already
    code_digest("data.miniature.a2d_layout")
    sys.argv[1:] = serve(socket.socket(fileno=int(sys.argv[1])))
    code = 1
    try:
        code = cli.main()
    except Exception:
        traceback.print_exc()
    atexit._run_exitfuncs()  # all that an exit does but for taking the imported libraries apart, which takes a second
    sys.stdout.flush()
    os._exit(code)
