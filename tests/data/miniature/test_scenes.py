"""Scenes are a function of their spec."""

import os
import subprocess
import sys


def test_scenes_do_not_depend_on_how_a_process_hashes_strings() -> None:
    code = "from data.miniature.a2d_layout import Spec, scenes; print(scenes(Spec(0, 60, 20, 64, 24, 1)))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert len(found) == 1
