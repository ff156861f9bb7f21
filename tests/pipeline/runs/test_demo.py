"""The demo: what `make demo` promises."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import PROJECT, Acga, Run

from data.masks import decode_rle

CONFIG = PROJECT / "configs" / "miniature.toml"
pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def demo(acga: Acga, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of the demo, which tests may add to."""
    store = tmp_path_factory.mktemp("demo") / "store"
    done = acga("run", CONFIG, "--store", store, "--json", timeout=2800)
    assert done.code == 0, done.errors
    return Run(store, done.document)


def test_the_demo_understands_its_sentences(demo: Run) -> None:
    scores = demo.document["metrics"]
    several, swapped = scores["acga_several"]["mean_iou"], scores["acga_swapped"]["mean_iou"]
    assert several >= 0.55
    assert several - swapped >= 0.35
    assert scores["every_actor"]["mean_iou"] <= 0.50
    assert demo.document["peak_memory_mib"] < 6 * 1024
    page = Path(demo.document["report"]).read_text()
    assert all(f"<td>{name}<td>" in page for name in ("acga_several", "acga_swapped", "every_actor"))
    assert all(f"<td>{group}<td>" in page for group in ("action", "colour", "place", "size"))


def test_masks_in_bfloat16_agree_with_those_in_float32(acga: Acga, demo: Run) -> None:
    precision = ("--set", "prediction.precision=bfloat16", "--until", "Predictions")
    rough = acga("run", CONFIG, "--store", demo.store, *precision, "--json", timeout=1200).document
    assert rough["executed"] == {"Predictions": 1}
    for protocol in ("acga", "coco"):
        assert agreement(samples(demo.document), samples(rough), protocol) >= 0.98


def samples(document: dict[str, Any]) -> list[dict[str, Any]]:
    (folder,) = map(Path, document["artifacts"]["Predictions"])
    attempt = json.loads((folder / "manifest.json").read_text())["attempt"]
    return json.loads((folder / attempt / "predictions.json").read_text())["samples"]


def agreement(a: list[dict[str, Any]], b: list[dict[str, Any]], protocol: str) -> float:
    """The mean IoU of the masks of the same samples; two empty ones agree."""
    overlaps = []
    for one, other in zip(a, b, strict=True):
        assert one["id"] == other["id"]
        left, right = decode_rle(one[protocol]).astype(bool), decode_rle(other[protocol]).astype(bool)
        union = (left | right).sum()
        overlaps.append((left & right).sum() / union if union else 1.0)
    return float(np.mean(overlaps))
