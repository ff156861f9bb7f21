"""File systems of a test's own: mounts that no other process sees."""

import subprocess
import sys

import pytest
from commands import PROJECT


def in_namespace(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run Python where file systems may be mounted."""
    if subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=900)
