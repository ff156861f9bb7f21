"""The real clips of ../shared/real through the whole chain: real codecs, MATLAB files and masks."""

import hashlib
import json
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pytest
from commands import PROJECT, Acga
from scipy.io import loadmat

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real") / "store"


def run(acga: Acga, config: str, store: Path, shared: Path) -> dict[str, Any]:
    assert shared.samefile(PROJECT.parent / "shared"), "the configs name this folder"
    done = acga("run", PROJECT / "configs" / config, "--store", store, "--json", timeout=1500)
    assert done.code == 0, done.errors
    return done.document


def samples(document: dict[str, Any], role: str) -> list[dict[str, Any]]:
    """The samples of a role."""
    found = []
    for folder in document["artifacts"]["Samples"]:
        manifest = json.loads((Path(folder) / "manifest.json").read_bytes())
        if manifest["label"] == role:
            found = json.loads((Path(folder) / manifest["attempt"] / "samples.json").read_bytes())["samples"]
    return found


@pytest.fixture(scope="module")
def on_a2d(acga: Acga, store: Path, shared: Path) -> dict[str, Any]:
    return run(acga, "real_a2d.toml", store, shared)


@pytest.fixture(scope="module")
def on_jhmdb(acga: Acga, store: Path, shared: Path, on_a2d: dict[str, Any]) -> dict[str, Any]:
    return run(acga, "real_jhmdb.toml", store, shared)


def test_a2d_runs_to_its_report_with_every_sample(on_a2d: dict[str, Any], shared: Path) -> None:
    annotations = shared / "real" / "a2d" / "text_annotations"
    rows = [line.split(",") for line in (annotations / "a2d_annotation.txt").read_text().splitlines()[1:]]
    videoset = (shared / "real" / "a2d" / "Release" / "videoset.csv").read_text().splitlines()
    test = {line.split(",")[0] for line in videoset if line.endswith(",1")}
    expected = set()
    for video, instance, _ in rows:
        for path in (annotations / "a2d_annotation_with_instances" / video).glob("*.h5"):
            with h5py.File(path) as file:
                if video in test and instance.isdigit() and int(instance) in file["instance"][:]:
                    expected.add(f"{video}/{int(path.stem):05d}/{instance}")
    assert {sample["mask"] for sample in samples(on_a2d, "test")} == expected
    assert on_a2d["metrics"]["acga"]["samples"] == len(expected)
    assert Path(on_a2d["report"]).read_text().count("<figure>") == 12
    assert "copied_row" in Path(on_a2d["report"]).read_text()


def test_jhmdb_is_the_test_set_of_the_same_model(on_jhmdb: dict[str, Any], on_a2d: dict[str, Any]) -> None:
    assert on_jhmdb["artifacts"]["TrainedModel"] == on_a2d["artifacts"]["TrainedModel"]
    assert "TrainedModel" not in on_jhmdb["executed"]
    assert on_jhmdb["metrics"]["acga"]["samples"] == 42 * 3


def test_jhmdb_masks_are_the_files_own(on_jhmdb: dict[str, Any], shared: Path) -> None:
    from pycocotools import mask as rle

    seen = 0
    for folder in on_jhmdb["artifacts"]["Masks"]:
        manifest = json.loads((Path(folder) / "manifest.json").read_bytes())
        if not manifest["label"].startswith("test/"):
            continue
        truth = json.loads((Path(folder) / manifest["attempt"] / "truth.json").read_bytes())["clips"]
        for clip, frame in truth.items():
            video, number = clip.rsplit("/", 1)
            (path,) = (shared / "real" / "jhmdb" / "puppet_mask").glob(f"*/{video}/puppet_mask.mat")
            expected = loadmat(path)["part_mask"][:, :, int(number) - 1]
            encoded = frame["instances"]["0"]["mask"]
            assert rle.area(encoded) == expected.sum()
            assert np.array_equal(rle.toBbox(encoded), rle.toBbox(rle.encode(np.asfortranarray(expected))))
            seen += 1
    assert seen == 42 * 3


@pytest.mark.parametrize("kind", ["a2d", "jhmdb"])
def test_each_frame_of_each_test_clip_is_the_one_that_pyav_decodes(
    on_a2d: dict[str, Any], on_jhmdb: dict[str, Any], shared: Path, kind: str
) -> None:
    document = {"a2d": on_a2d, "jhmdb": on_jhmdb}[kind]
    seen = 0
    for folder in document["artifacts"]["Frames"]:
        manifest = json.loads((Path(folder) / "manifest.json").read_bytes())
        if not manifest["label"].startswith("test/"):
            continue
        ledger = json.loads((Path(folder) / manifest["attempt"] / "ledger.json").read_bytes())
        assert ledger["quarantined"] == {}
        pictures: dict[str, list[str]] = {}
        for clip, entry in ledger["clips"].items():
            video, number = clip.rsplit("/", 1)
            pixels = pictures.setdefault(video, hashes(shared / "real" / kind, video))
            usable = len(pixels)
            if kind == "jhmdb":  # frames after the last mask do not count
                (path,) = (shared / "real" / "jhmdb" / "puppet_mask").glob(f"*/{video}/puppet_mask.mat")
                usable = min(usable, loadmat(path)["part_mask"].shape[2])
            expected = [min(max(index, 0), usable - 1) for index in range(int(number) - 9, int(number) + 7)]
            assert entry["indices"] == expected
            assert entry["pixels"] == [pixels[index] for index in expected]
            seen += 1
    assert seen == {"a2d": len({sample["clip"] for sample in samples(on_a2d, "test")}), "jhmdb": 42 * 3}[kind]


def hashes(root: Path, video: str) -> list[str]:
    """What the ledger writes for each frame of a video, from PyAV."""
    (path,) = [path for path in root.rglob(f"{video}.*") if path.suffix in (".mp4", ".avi")]
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            name = f"{picture.shape[0]}x{picture.shape[1]}x3".encode() + picture.tobytes()
            found.append(hashlib.sha256(name).hexdigest()[:16])
    return found


def test_a_second_run_executes_nothing(
    acga: Acga, store: Path, shared: Path, on_a2d: dict[str, Any], on_jhmdb: dict[str, Any]
) -> None:
    assert run(acga, "real_a2d.toml", store, shared)["executed"] == {}
    assert run(acga, "real_jhmdb.toml", store, shared)["metrics"] == on_jhmdb["metrics"]
