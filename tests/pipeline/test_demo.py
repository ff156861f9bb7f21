"""The demo: what `make demo` promises."""

from pathlib import Path

import pytest
from commands import PROJECT, Acga

pytestmark = pytest.mark.slow


@pytest.mark.timeout(3000)
def test_the_demo_understands_its_sentences(acga: Acga, tmp_path: Path) -> None:
    config = PROJECT / "configs" / "miniature.toml"
    done = acga("run", config, "--store", tmp_path, "--json", timeout=2800)
    assert done.code == 0, done.errors
    scores = done.document["metrics"]
    several, swapped = scores["acga_several"]["mean_iou"], scores["acga_swapped"]["mean_iou"]
    assert several >= 0.55
    assert several - swapped >= 0.35
    assert scores["every_actor"]["mean_iou"] <= 0.50
    assert done.document["peak_memory_mib"] < 6 * 1024
    page = Path(done.document["report"]).read_text()
    assert all(f"<td>{name}<td>" in page for name in ("acga_several", "acga_swapped", "every_actor"))
    assert all(f"<td>{group}<td>" in page for group in ("action", "colour", "place", "size"))
