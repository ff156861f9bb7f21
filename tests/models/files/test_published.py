"""Published weights are recognised by their content."""

import hashlib
import subprocess
from pathlib import Path

from torchvision.models import resnet

from models.files import published


def test_the_blob_id_is_gits(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"weights" * 300_000)
    assert published.identity(path) == published.UNKNOWN
    blob = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setitem(published.BLOBS, blob, "the file of this test")
    assert published.identity(path) == "the file of this test"


def test_a_file_of_torchvision_is_told_by_its_sha256(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    monkeypatch.setitem(published.TORCHVISION, hashlib.sha256(b"weights").hexdigest()[:8], "resnet0, TEST")
    assert published.identity(path) == "the weights that torchvision publishes (resnet0, TEST)"


def test_the_digits_are_those_in_torchvisions_addresses() -> None:
    addresses = {
        weights.url.rpartition("-")[2].removesuffix(".pth"): f"resnet{depth}, {weights.name}"
        for depth in (18, 34, 50, 101, 152)
        for weights in getattr(resnet, f"ResNet{depth}_Weights")
    }
    assert addresses == published.TORCHVISION


def test_the_ids_of_the_i3d_weights_are_whole() -> None:
    assert len(published.BLOBS) == 8
    assert published.named("2a7c22e23e6c74f50a0166ce61110bccd2ab48bb", "").startswith("the published hassony2 RGB")
    assert all(len(blob) == 40 and int(blob, 16) for blob in published.BLOBS)
