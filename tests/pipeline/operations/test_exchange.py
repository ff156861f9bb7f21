"""Features out to the authors' layout and in again: equal values, whatever happens on the way."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from commands import PROJECT, Acga, Run

from extractors.shards.shard import ShardReader

TRAIN, TEST = 34, 20  # samples of tiny
CLIPS = {"train": 14, "test": 10}
FILES = {"acga.json", "bbox.h5", "mask.h5", "test.txt", "train.txt", "txt.h5", "video_rgb_iccv.h5", ".export.json"}
LIKE_TINY = (
    "visual.weights=seeded",
    "visual.width=0.125",
    "text.dim=16",
    "model.channels=[16,8]",
    "model.widths=[16,8,8]",
    "training.epochs=1",
    "frames.size=64",
    "compute.threads=1",
    "compute.device=cpu",
)


@dataclass(frozen=True)
class Exported:
    """A finished run, its export, and what the command said."""

    run: Run
    folder: Path
    document: dict[str, Any]


@pytest.fixture(scope="module")
def exported(acga: Acga, finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    place = tmp_path_factory.mktemp("exported")
    store = Path(shutil.copytree(finished.store, place / "store"))
    done = acga("export", acga.config, "--store", store, "--to", place / "A2D", "--json")
    assert done.code == 0, done.errors
    return Exported(Run(store, finished.document), place / "A2D", done.document)


@pytest.fixture(scope="module")
def imported(acga: Acga, exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that took the export in."""
    store = tmp_path_factory.mktemp("imported") / "store"
    done = acga("import", exported.folder, "--store", store, "--json")
    assert done.code == 0, done.errors
    assert done.document["executed"] == {"Imported": 2}
    return store


@pytest.fixture
def folder(exported: Exported, tmp_path: Path) -> Path:
    """A copy of the export, to be changed."""
    return Path(shutil.copytree(exported.folder, tmp_path / "A2D"))


def files_of(folder: Path) -> Path:
    """The files of an artifact."""
    return folder / json.loads((folder / "manifest.json").read_bytes())["attempt"]


def artifacts(store: Path, stage: str) -> dict[str, Path]:
    """The files of a stage's artifacts by label."""
    paths = (store / stage).glob("*/manifest.json")
    return {json.loads(path.read_bytes())["label"]: files_of(path.parent) for path in paths}


class AuthorsLoader:
    """What the authors' loader does with their folder: every file whole, opened for SWMR."""

    def __init__(self, folder: Path, split: str) -> None:
        with (folder / f"{split}.txt").open(newline="") as text:
            self.lines = list(csv.reader(text))
        self.features = self.opened(folder / "video_rgb_iccv.h5")[split]
        self.words = self.opened(folder / "txt.h5")[split]
        self.masks = self.opened(folder / "mask.h5")[split]
        self.boxes = self.opened(folder / "bbox.h5")[split]

    @staticmethod
    def opened(path: Path) -> dict[str, Any]:
        with h5py.File(path, "r", libver="latest", swmr=True) as file:
            assert file.swmr_mode
            return {
                split: {name: values[...] for name, values in node.items()}
                if isinstance(node, h5py.Group)
                else node[...]
                for split, node in file.items()
            }


@pytest.mark.parametrize(("split", "rows"), [("train", TRAIN), ("test", TEST)])
def test_the_authors_loader_reads_the_values_of_the_artifacts(exported: Exported, split: str, rows: int) -> None:
    assert {path.name for path in exported.folder.iterdir()} == FILES
    assert exported.document["samples"] == {"train": TRAIN, "test": TEST}
    assert exported.document["written"] == TRAIN + TEST
    found = AuthorsLoader(exported.folder, split)
    store = exported.run.store
    shards = {
        stage: {label: folder for label, folder in artifacts(store, stage).items() if label.startswith(split)}
        for stage in ("VisualFeatures", "Masks", "Samples", "TextFeatures")
    }
    visual = of_ids(shards["VisualFeatures"], "visual.h5", ("features", "scale"))
    words = of_ids(shards["TextFeatures"], "text.h5", ("words",))
    masks = of_ids(shards["Masks"], "masks.h5", ("large", "medium", "small"))
    samples = json.loads((shards["Samples"][split] / "samples.json").read_bytes())["samples"]
    assert found.lines == [[sample["id"], "64", "64"] for sample in samples]
    assert (len(samples), found.features.shape, found.features.dtype) == (rows, (rows, 1, 66, 4, 4, 4), np.float32)
    for row, sample in enumerate(samples):
        half, scale = visual[sample["clip"]]["features"], visual[sample["clip"]]["scale"]
        np.testing.assert_array_equal(found.features[row, 0], half.astype(np.float32) * scale)
        np.testing.assert_array_equal(found.words[row], words[sample["query"]]["words"])
        for resolution in ("large", "medium", "small"):
            mask = masks[sample["mask"]][resolution]
            np.testing.assert_array_equal(found.masks[resolution][row], mask)
            np.testing.assert_array_equal(found.boxes[resolution][row], box(mask))


def of_ids(folders: dict[str, Path], file: str, names: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    """The rows of shards by their ids."""
    readers = [ShardReader(folder / file) for folder in folders.values()]
    return {
        id: {name: reader.read(name, row) for name in names} for reader in readers for row, id in enumerate(reader.ids)
    }


def box(mask: np.ndarray) -> list[int]:
    """Left, top, right, bottom of the ones, the last two exclusive."""
    places = np.argwhere(mask)
    if not len(places):
        return [0, 0, 0, 0]
    (top, left), (bottom, right) = places.min(0), places.max(0)
    return [left, top, right + 1, bottom + 1]


def test_an_export_taken_in_again_is_identical(acga: Acga, exported: Exported, imported: Path) -> None:
    folders = [path.parent for path in (imported / "Imported").glob("*/manifest.json")]
    assert len(folders) == 2
    for folder in folders:
        split = json.loads((folder / "manifest.json").read_bytes())["label"]
        done = acga("diff", folder, exported.folder, "--json")
        assert (done.code, done.document["verdict"], done.document["stage"]) == (0, "identical", None), done.errors
        assert len(done.document["samples"]) == CLIPS[split]
        assert set(done.document["samples"].values()) == {0}


def test_an_artifact_and_its_export_are_identical(acga: Acga, exported: Exported) -> None:
    folder = next((exported.run.store / "VisualFeatures").glob("*/manifest.json")).parent
    done = acga("diff", folder, exported.folder, "--json")
    assert (done.code, done.document["verdict"]) == (0, "identical"), done.errors
    assert set(done.document["samples"].values()) == {0}


def test_equal_features_are_stored_once(imported: Path) -> None:
    for split, samples in (("train", TRAIN), ("test", TEST)):
        files = artifacts(imported, "Imported")[split]
        visual, listed = ShardReader(files / "visual.h5"), json.loads((files / "samples.json").read_bytes())["samples"]
        assert (len(visual), len(listed)) == (CLIPS[split], samples)
        assert {sample["clip"] for sample in listed} == set(visual.ids)
        distinct = {visual.read("features", row).tobytes() for row in range(len(visual))}
        assert len(distinct) == len(visual)


@pytest.mark.slow
def test_a_network_trains_on_a_folder_and_what_the_folder_cannot_say_is_absent(
    acga: Acga, exported: Exported, imported: Path
) -> None:
    overrides = (f"dataset.root={exported.folder}", *LIKE_TINY)
    settings = tuple(part for override in overrides for part in ("--set", override))
    done = acga("run", PROJECT / "configs" / "reference.toml", "--store", imported, "--json", *settings)
    assert done.code == 0, done.errors
    document = done.document
    assert document["executed"] == {"TrainedModel": 1, "Predictions": 1, "Metrics": 1, "Report": 1}
    assert document["reused"] == {"Imported": 2}, "the weights do not matter to what was taken in"
    assert document["metrics"]["acga"]["samples"] == TEST
    assert not document["metrics"].keys() & {"coco", "acga_several", "acga_swapped", "every_actor"}
    page = Path(document["report"]).read_text()
    scores = json.loads((Path(document["report"]).parent / "metrics.json").read_bytes())
    assert "not as they were drawn" in scores["absent"]["coco"]
    assert "coco is absent: the features were imported" in page
    assert "The sentences are not in the imported folder, only their word vectors." in page
    assert page.count("sentence and frame are not in the imported folder") >= 4, "those of the samples shown"


def test_a_test_set_alone_is_taken_in(acga: Acga, folder: Path, tmp_path: Path) -> None:
    (folder / "train.txt").unlink()
    for file in ("video_rgb_iccv.h5", "txt.h5", "mask.h5", "bbox.h5"):
        with h5py.File(folder / file, "r+") as opened:
            del opened["train"]
    done = acga("import", folder, "--store", tmp_path / "store", "--json")
    assert (done.code, len(done.document["folders"])) == (0, 1), done.errors


# ---- killed


def export_command(acga: Acga, exported: Exported, to: Path) -> "subprocess.Popen[bytes]":
    command = acga.command("export", acga.config, "--store", exported.run.store, "--to", to)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=PROJECT, start_new_session=True, **streams)


def kill_when(process: "subprocess.Popen[bytes]", moment: Callable[[], bool]) -> None:
    """SIGKILL to an export and all of its processes at a moment; also where it ends before."""
    while process.poll() is None and not moment():
        time.sleep(0.0005)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def mark(folder: Path) -> dict[str, Any]:
    """How far an export says that it has come."""
    path = folder / ".export.json"
    return json.loads(path.read_bytes()) if path.exists() else {"done": 0, "total": TRAIN + TEST, "finished": False}


def killed_export(acga: Acga, exported: Exported, place: Path, moment: Callable[[Path], bool]) -> Path:
    """A folder whose export was killed before its end; a fast one may need several."""
    for attempt in range(6):
        folder = place / f"attempt{attempt}" / "A2D"
        folder.parent.mkdir()
        kill_when(export_command(acga, exported, folder), lambda folder=folder: moment(folder))
        if not mark(folder)["finished"]:
            return folder
    raise AssertionError("six exports ended before they could be killed")


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        lambda folder: (folder / "video_rgb_iccv.h5").exists(),
        lambda folder: mark(folder)["done"] > 0,
    ],
    ids=["no row is safe", "some rows are safe"],
)
def test_a_killed_export_goes_on_and_is_byte_for_byte_that_of_one_left_alone(
    acga: Acga, exported: Exported, tmp_path: Path, moment: Callable[[Path], bool]
) -> None:
    folder = killed_export(acga, exported, tmp_path, moment)
    safe = mark(folder)["done"]
    assert safe < TRAIN + TEST
    done = acga("export", acga.config, "--store", exported.run.store, "--to", folder, "--json")
    assert done.document["written"] == TRAIN + TEST - safe
    assert contents(folder) == contents(exported.folder)


def test_an_export_that_is_whole_is_left_alone(acga: Acga, exported: Exported) -> None:
    before = contents(exported.folder)
    again = acga("export", acga.config, "--store", exported.run.store, "--to", exported.folder, "--json")
    assert (again.code, again.document["written"]) == (0, 0)
    assert contents(exported.folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- refused


def unfinished(folder: Path) -> None:
    (folder / ".export.json").write_text(json.dumps(mark(folder) | {"done": 32, "finished": False}))


def without_masks(folder: Path) -> None:
    (folder / "mask.h5").unlink()


def without_lists(folder: Path) -> None:
    (folder / "train.txt").unlink()
    (folder / "test.txt").unlink()


def one_row_less(folder: Path) -> None:
    with h5py.File(folder / "txt.h5", "r+") as file:
        fewer = file["train"][1:]
        del file["train"]
        file["train"] = fewer


def not_a_number(folder: Path) -> None:
    with h5py.File(folder / "video_rgb_iccv.h5", "r+") as file:
        file["test"][3, 0, 0, 0, 0, 0] = np.nan


def grey_mask(folder: Path) -> None:
    with h5py.File(folder / "mask.h5", "r+") as file:
        file["train/large"][2, 1, 1] = 255


def cut(folder: Path) -> None:
    path = folder / "video_rgb_iccv.h5"
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (unfinished, ("32 of 54 rows", "acga export")),
        (without_masks, ("mask.h5",)),
        (without_lists, ("neither train.txt nor test.txt",)),
        (one_row_less, ("txt.h5", "(33, 20, 16)", "34")),
        (not_a_number, ("video_rgb_iccv.h5", "row 3", "not finite")),
        (grey_mask, ("mask.h5", "row 2", "255")),
        (cut, ("video_rgb_iccv.h5", "HDF5")),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_in_one_line(
    acga: Acga, folder: Path, tmp_path: Path, damage: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    damage(folder)
    done = acga("import", folder, "--store", tmp_path / "store")
    assert done.code in (2, 3), done.errors
    assert done.output == "" and "Traceback" not in done.errors
    (complaint,) = (line for line in done.errors.splitlines() if line.startswith("acga: "))
    assert all(word in complaint for word in words), complaint


def test_a_folder_that_holds_anything_else_is_not_written_to(acga: Acga, exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = acga("export", acga.config, "--store", exported.run.store, "--to", tmp_path)
    assert (done.code, done.output) == (2, "")
    assert "notes.txt" in done.errors.splitlines()[-1]
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_two_streams_are_not_one_folder(acga: Acga, exported: Exported, tmp_path: Path) -> None:
    both = ("--set", "visual.modality=both", "--set", "prediction.fusion=[1.0, 1.0]")
    done = acga("export", acga.config, "--store", exported.run.store, "--to", tmp_path / "A2D", *both)
    assert done.code == 2
    assert "visual.modality=rgb" in done.errors.splitlines()[-1]
    assert not (tmp_path / "A2D").exists()
