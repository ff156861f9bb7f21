"""Functions to read and write predictions.json, the predicted masks of the test set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

from data.masks import RunLengths


class Prediction(TypedDict):
    """The masks of one sample under both protocols, and the confidence (0 to 1) of the mask of the protocol coco."""

    id: str
    acga: RunLengths
    coco: RunLengths
    confidence: float


def read_predictions(folder: Path) -> list[Prediction]:
    """Read the predictions.json of a Predictions artifact, in the order of the samples."""
    found: list[Prediction] = json.loads((folder / "predictions.json").read_bytes())["samples"]
    return found


def write_predictions(folder: Path, predictions: list[Prediction]) -> None:
    """Write predictions.json."""
    (folder / "predictions.json").write_text(json.dumps({"samples": predictions}, indent=1), encoding="utf-8")
