"""What tests read of a store."""

import json
from pathlib import Path
from typing import Any

from pipeline.engine.journal import Journal

SHARDED = {"Frames": 4, "Masks": 4, "VisualFeatures": 4}
OF_ROLE = {"TextFeatures": 2, "Samples": 2}
SINGLE = {"TrainedModel": 1, "Predictions": 1, "Metrics": 1, "Report": 1}
EVERYTHING = SHARDED | OF_ROLE | SINGLE
"""The tasks of tiny, by stage."""


def journals(store: Path) -> list[list[dict[str, Any]]]:
    """The events of every run, in the order of the runs."""
    return [Journal(path).events() for path in sorted((store / "journal").glob("*.jsonl"))]


def events(store: Path) -> list[dict[str, Any]]:
    """The journal of the last run."""
    return journals(store)[-1]


def manifests(store: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """All manifests by stage and key."""
    found = [json.loads(path.read_text()) for path in store.glob("*/*/manifest.json")]
    return {(manifest["stage"], manifest["key"]): manifest for manifest in found}


def data_files(store: Path) -> dict[str, bytes]:
    """Every file of every published artifact, by stage, key and name."""
    files = {}
    for (stage, key), manifest in manifests(store).items():
        folder = store / stage / key[:16] / manifest["attempt"]
        files |= {f"{stage}/{key}/{name}": (folder / name).read_bytes() for name in manifest["files"]}
    return files
