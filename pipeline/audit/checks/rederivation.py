"""Check H: artifacts are built again from their inputs, each in a separate process, and compared with the originals.

Each is built in a store that contains only its inputs, so that no existing result can be reused. The content must be
equal. If it is not, and the code or the packages have changed, the difference is compared with a noise floor. The floor
is measured on the same clips with other batch sizes and threads (and, for information, in the other precision).
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.wording import counted, numbered
from pipeline import interrupts
from pipeline.audit.subject import BY_NAME, Node, Subject
from pipeline.audit.verdicts import Check, check
from pipeline.config import ConfigError
from pipeline.engine.syntax import ROOT

ALL_OF_IT = "--steps 0 trains all of it again"


def share(text: str) -> str:
    """Check the argument of --rebuild and return it: a number of tasks per stage, a percentage, or "all".

    Raises `ConfigError` for any other argument.
    """
    if text == "all" or text.isdigit() or (text.endswith("%") and text[:-1].replace(".", "", 1).isdigit()):
        return text
    raise ConfigError(f"--rebuild {text}: expected a number of tasks a stage, a share such as 5%, or all")


def chosen(nodes: Sequence[Node], wanted: str, seed: int) -> list[Node]:
    """Return a seeded sample of each stage's nodes, with at least one per stage."""
    found = []
    for stage in BY_NAME:
        of_stage = [node for node in nodes if node.place.stage == stage]
        if wanted == "all":
            count = len(of_stage)
        elif wanted.endswith("%"):
            count = math.ceil(len(of_stage) * float(wanted[:-1]) / 100)
        else:
            count = int(wanted)
        count = min(len(of_stage), max(1, count))
        picked = random.Random(f"{seed} {stage}").sample(range(len(of_stage)), count)
        found += [of_stage[place] for place in sorted(picked)]
    return found


def rederivation(
    subject: Subject, wanted: str, steps: int, seed: int, drifted: bool, progress: Callable[[int, int], None]
) -> Check:
    """Build a sample of the artifacts again and compare; replay only `steps` steps of training, or all if it is 0.

    `drifted` says that the code or the environment has changed, so that differences within the noise floor are drift.
    """
    if wanted == "0":
        return check("H", unknown=["nothing was built again; --rebuild 1, 5% or all does it"])
    sample = chosen([node for node in subject.whole if node.place.stage != "Imported"], wanted, seed)
    wrong, drift, unknown = [], [], []
    done: dict[str, Any] = {}
    floor: dict[str, float] = {}
    for number, node in enumerate(sample, start=1):
        progress(number - 1, len(sample))
        found = rebuilt(subject, node, steps, not floor and node.place.stage == "VisualFeatures")
        floor = floor or found.get("floor") or {}
        done[node.name] = found
        tolerance = max((floor[name] for name in ("batch", "threads") if name in floor), default=0.0)
        if found["error"]:
            unknown.append(f"{node.name} could not be built again: {found['error']}")
        elif not found["equal"] and drifted and 0 < (found.get("largest") or 1.0) <= tolerance:
            drift.append(f"{node.name}: {found['difference']}; within the noise floor {tolerance:.1e}")
        elif not found["equal"]:
            wrong.append(f"{node.name}: {found['difference']}")
    left = len(subject.whole) - len(sample)
    unchecked = (
        [f"{left} of {counted(len(subject.whole), 'artifact')} {numbered(left, 'was', 'were')} not built again"]
        if left
        else []
    )
    unchecked += [f"{name}: only {_steps(found['steps'])}" for name, found in done.items() if "steps" in found]
    return check("H", wrong, drift, unknown, unchecked, {"rebuilt": done, "noise_floor": floor})


def rebuilt(subject: Subject, node: Node, steps: int, floor: bool) -> dict[str, Any]:
    """Build one artifact again and return the outcome: {"error", "equal", "difference", ...}."""
    try:
        partly = steps > 0 and _was_trained(node)
        replays = _replays(node, steps) if partly else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _open(f"its training.json cannot be read ({type(error).__name__}: {error})")
    if partly and (processes := node.known["experiment"]["sections"]["training"]["processes"]) > 1:
        return _open(
            f"{counted(processes, 'process', 'processes')} trained it, and one would not give the same"
            f" bits; {ALL_OF_IT}"
        )
    if partly and not replays:
        return _open(f"its training noted nothing after {counted(steps, 'step')} or fewer; {ALL_OF_IT}")
    with tempfile.TemporaryDirectory(prefix="acga-audit-") as folder, interrupts.deleted(folder):
        scratch = Path(folder)
        if missing := _lay_out(subject, node, scratch):
            return _open(missing)
        order = {
            "store": str(scratch),
            "original": str(node.attempt.resolve()),
            "stage": node.place.stage,
            "label": node.label,
            "experiment": node.known["experiment"],
            "files": node.known["files"],
            "from": node.known["from"],
            "replays": replays,
            "end": _end(node) if replays else "",
            "floor": floor,
        }
        command = [sys.executable, "-P", "-m", "pipeline.audit.checks.rebuilding"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(
            command, input=json.dumps(order), capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:
            return _open(done.stderr.strip().rpartition("\n")[2][-400:])
        return dict(json.loads(done.stdout.strip().rpartition("\n")[2]))


def _open(error: str) -> dict[str, Any]:
    """Return the outcome for an artifact that could not be built again and therefore was not compared."""
    return {"error": error, "equal": False, "difference": ""}


def _was_trained(node: Node) -> bool:
    return node.place.stage == "TrainedModel" and _training(node)["origin"] == "trained"


def _training(node: Node) -> dict[str, Any]:
    return dict(json.loads((node.attempt / "training.json").read_bytes()))


def _replays(node: Node, steps: int) -> list[tuple[int, int, str]]:
    """Return the replays of training: the epoch, the number of steps (at most `steps`), and the recorded digest of the
    weights after them."""
    found = []
    for epoch, noted in _training(node)["trail"].items():
        known = [int(step) for step in noted if int(step) <= steps]
        found += [(int(epoch), max(known), noted[str(max(known))])] if known else []
    return found


def _end(node: Node) -> str:
    """Return the digest of the weights at the end of training, or "" if those of the best epoch were kept instead."""
    if node.known["experiment"]["sections"]["training"]["validation"]:
        return ""
    *_, noted = _training(node)["trail"].values()
    return str(noted[max(noted, key=int)])


def _steps(steps: Mapping[str, int]) -> str:
    """Describe the steps that were trained again."""
    return ", ".join(f"{counted(count, 'step')} of {epoch}" for epoch, count in steps.items())


def _lay_out(subject: Subject, node: Node, scratch: Path) -> str:
    """Create a store that contains only the inputs of one artifact; return a message if one is missing, else ""."""
    (scratch / "catalogue").mkdir()
    name = f"{node.known['experiment']['catalogue']}.json"
    if not (subject.store / "catalogue" / name).exists():
        return f"catalogue {name} is gone"
    shutil.copy(subject.store / "catalogue" / name, scratch / "catalogue")
    by_key = {(below.place.stage, below.place.key): below for below in subject.nodes}
    for stage, label, key in node.known["from"]:
        below = by_key.get((stage, key))
        if below is None or below.manifest is None or below.place.evicted:
            return f"its input {stage} {label} is not there"
        place = scratch / stage / key[:16]
        place.mkdir(parents=True)
        shutil.copy(below.place.folder / "manifest.json", place)
        (place / below.known["attempt"]).symlink_to(below.attempt.resolve(), target_is_directory=True)
    return ""
