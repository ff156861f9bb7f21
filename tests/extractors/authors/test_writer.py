"""The authors' layout as we write it: their loader reads it, and a kill costs nothing."""

import csv
import json
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from extractors.authors import writer
from extractors.authors.reader import ReferenceFolder, ReferenceSample
from extractors.authors.writer import (
    DamagedExport,
    ForeignFolder,
    NoRoom,
    ReferenceLayout,
    ReferenceRow,
    ReferenceWriter,
    WrongExport,
    WrongReferenceRow,
    mask_box,
)

ROOT = Path(writer.__file__).parents[2]
LAYOUT = ReferenceLayout(features=(6, 4, 2, 2), words=(5, 3), mask=32)
SPLITS = {
    "train": [ReferenceSample(f'vidéo {number}/0000{number}, "a" cat', 240 + number, 320) for number in range(7)],
    "test": [ReferenceSample(f"{number}", 320, 240) for number in range(3)],
}
FILES = [".export.json", "bbox.h5", "mask.h5", "test.txt", "train.txt", "txt.h5", "video_rgb_iccv.h5"]


def made(split: str, number: int) -> ReferenceRow:
    """The row of a sample."""
    random = np.random.default_rng([split == "test", number])
    return ReferenceRow(
        features=random.standard_normal((6, 4, 2, 2), np.float32),
        words=random.standard_normal((5, 3), np.float32),
        large=random.integers(0, 2, (32, 32), np.uint8),
        medium=random.integers(0, 2, (8, 8), np.uint8),
        small=random.integers(0, 2, (2, 2), np.uint8),
    )


def export(folder: Path, content: str = "c", modality: str = "rgb") -> ReferenceWriter:
    """The writer of a folder's export, which it has written."""
    writer = ReferenceWriter(folder, modality, SPLITS, LAYOUT, content)
    writer.write(made)
    return writer


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def authors_load(folder: Path, split: str, modality: str) -> dict[str, np.ndarray]:
    """All of a split, as the authors' loader holds it: a second implementation, after the reference page."""
    found = {}
    with (folder / f"{split}.txt").open(newline="") as lines:
        found["size"] = np.array([[int(height), int(width)] for _, height, width in csv.reader(lines)])
    for file, keys in {
        f"video_{modality}_iccv": [split],
        "txt": [split],
        "mask": [f"{split}/{name}" for name in ("large", "medium", "small")],
        "bbox": [f"{split}/{name}" for name in ("large", "medium", "small")],
    }.items():
        with h5py.File(str(folder / f"{file}.h5"), "r", libver="latest", swmr=True) as opened:
            assert opened.swmr_mode
            for key in keys:
                found[f"{file} {key}"] = opened[key][()]
    return found


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_the_authors_loader_reads_what_was_written(tmp_path: Path, modality: str) -> None:
    export(tmp_path / "out", modality=modality)
    for split, samples in SPLITS.items():
        rows = [made(split, number) for number in range(len(samples))]
        found = authors_load(tmp_path / "out", split, modality)
        np.testing.assert_array_equal(found["size"], [[sample.height, sample.width] for sample in samples])
        expected = {
            f"video_{modality}_iccv {split}": np.stack([row.features[None] for row in rows]),
            f"txt {split}": np.stack([row.words for row in rows]),
            **{
                f"mask {split}/{name}": np.stack([getattr(row, name) for row in rows])
                for name in ("large", "medium", "small")
            },
        }
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
            assert found[name].dtype == values.dtype, name
        assert found[f"video_{modality}_iccv {split}"].shape == (len(rows), 1, 6, 4, 2, 2)
        for name in ("large", "medium", "small"):
            boxes = found[f"bbox {split}/{name}"]
            assert boxes.dtype == np.float32 and boxes.shape == (len(rows), 4)
            np.testing.assert_array_equal(boxes, [mask_box(getattr(row, name)) for row in rows])


def test_the_files_are_those_of_the_table_without_filters_or_chunks(tmp_path: Path) -> None:
    writer = export(tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == FILES
    assert (tmp_path / "out" / "train.txt").read_text("utf-8").splitlines()[1] == '"vidéo 1/00001, ""a"" cat",241,320'
    keys = {"video_rgb_iccv.h5": ["{}"], "txt.h5": ["{}"]}
    keys |= {name: ["{}/large", "{}/medium", "{}/small"] for name in ("mask.h5", "bbox.h5")}
    stored = 0
    for name, templates in keys.items():
        assert (tmp_path / "out" / name).read_bytes()[8] == 3, "the superblock of HDF5 1.10"
        with h5py.File(tmp_path / "out" / name) as file:
            assert sorted(file) == ["test", "train"]
            for dataset in (file[template.format(split)] for template in templates for split in SPLITS):
                assert dataset.chunks is None and dataset.compression is None and not dataset._filters
                stored += dataset.id.get_storage_size()
    assert stored == writer.total * writer.bytes_per_row
    row = ReferenceLayout(features=(528, 4, 32, 32), words=(20, 300), mask=512)
    full = ReferenceWriter(tmp_path / "full", "rgb", {"test": SPLITS["test"]}, row, "c")
    assert full.bytes_per_row == 8_954_304 + 3 * 4 * 4  # the reference page's figure, and the boxes


def test_a_box_is_that_of_the_masks_pixels() -> None:
    mask = np.zeros((6, 6), np.uint8)
    assert mask_box(mask).tolist() == [0, 0, 0, 0]
    mask[1:3, 2:6] = 1
    assert mask_box(mask).tolist() == [2, 1, 6, 3]  # left, top, right, bottom


@settings(max_examples=50, deadline=None)
@given(mask=arrays(np.uint8, (9, 9), elements=st.integers(0, 1), fill=st.just(np.uint8(0))))
def test_a_box_is_that_of_coco(mask: np.ndarray) -> None:
    left, top, width, height = coco.toBbox(coco.encode(np.asfortranarray(mask)))
    assert mask_box(mask).tolist() == [left, top, left + width, top + height]


SCRIPT = """
import os, signal, sys, numpy as np
from pathlib import Path
from extractors.authors.reader import ReferenceSample
from extractors.authors.writer import ReferenceLayout, ReferenceRow, ReferenceWriter

folder, place, after = sys.argv[1], sys.argv[2], int(sys.argv[3])
rows = {"train": 6, "test": 3}
splits = {split: [ReferenceSample(f"{split} {n}", 9, 8) for n in range(rows[split])] for split in rows}

def row(split, number):
    if place == "row" and after == number + 6 * (split == "test"):
        os.kill(os.getpid(), signal.SIGKILL)
    random = np.random.default_rng([split == "test", number])
    masks = (random.integers(0, 2, (side, side), np.uint8) for side in (64, 16, 4))
    return ReferenceRow(random.random((8, 4, 9, 9), np.float32), random.random((20, 30), np.float32), *masks)

def progress(done, total):
    if place == "progress" and done == after:
        os.kill(os.getpid(), signal.SIGKILL)

writer = ReferenceWriter(Path(folder), "rgb", splits, ReferenceLayout((8, 4, 9, 9), (20, 30), 64), "content")
print(writer.done, writer.write(row, progress, mark_every=2), writer.done, writer.finished)
"""


def in_a_process(folder: Path, place: str = "never", after: int = -1) -> str:
    """What an export in a process of its own prints; that it was killed, if it was asked to be."""
    arguments = [sys.executable, "-c", SCRIPT, str(folder), place, str(after)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout.strip() if done.returncode == 0 else "killed"


def marked(folder: Path) -> tuple[int, bool]:
    mark = json.loads((folder / ".export.json").read_text())
    return mark["done"], mark["finished"]


def test_an_export_that_is_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    assert in_a_process(whole) == "0 9 9 True"
    assert in_a_process(folder, "row", 0) == "killed" and marked(folder) == (0, False)
    (folder / "mask.h5").unlink()  # as a kill leaves it while the files are made
    (folder / "mask.h5.part").write_bytes(b"half a file")
    assert in_a_process(folder, "row", 5) == "killed" and marked(folder) == (4, False)
    with h5py.File(folder / "txt.h5") as file:  # the fifth row lies there, but is not vouched for
        offset = file["train"].id.get_offset() + 4 * 20 * 30 * 4
    with (folder / "txt.h5").open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 20 * 30 * 4 * 2)
    assert in_a_process(folder, "row", 7) == "killed" and marked(folder) == (6, False)
    assert in_a_process(folder, "progress", 9) == "killed" and marked(folder) == (9, False)
    assert not (folder / "train.txt").exists() and not (folder / "test.txt").exists()
    with pytest.raises(ValueError, match=r"stopped after 9 of 9 rows\. Run the same `acga export` again"):
        ReferenceFolder(folder)
    (folder / "train.txt.part").rename(folder / "train.txt")  # as a kill leaves it between the last two moves
    assert in_a_process(folder) == "9 0 9 True"
    assert contents(folder) == contents(whole)
    assert sorted(contents(whole)) == FILES
    assert in_a_process(folder) == "9 0 9 True"


def test_a_finished_export_says_so_and_is_left_alone(tmp_path: Path) -> None:
    first = export(tmp_path / "out")
    assert first.finished and first.done == first.total == 10
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = ReferenceWriter(tmp_path / "out", "rgb", SPLITS, LAYOUT, "c")
    assert again.finished and again.write(made) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_rows_are_asked_for_in_order_and_each_once(tmp_path: Path) -> None:
    asked, told = [], []

    def row(split: str, number: int) -> ReferenceRow:
        asked.append((split, number))
        return made(split, number)

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    writer = ReferenceWriter(tmp_path / "out", "rgb", {"test": SPLITS["test"], "train": SPLITS["train"]}, LAYOUT, "c")
    assert (writer.done, writer.finished, writer.write(row, progress)) == (0, False, 10)
    assert asked == [("train", number) for number in range(7)] + [("test", number) for number in range(3)]
    assert told == [(done, 10) for done in range(1, 11)]


def test_a_folder_of_other_data_is_refused_and_nothing_in_it_is_touched(tmp_path: Path) -> None:
    export(tmp_path / "out")
    before = contents(tmp_path / "out")
    longer = {**SPLITS, "test": [*SPLITS["test"], ReferenceSample("3", 320, 240)]}
    for splits, layout, modality, content in [
        (SPLITS, LAYOUT, "rgb", "other"),
        (SPLITS, LAYOUT, "flow", "c"),
        (SPLITS, replace(LAYOUT, mask=64), "rgb", "c"),
        (longer, LAYOUT, "rgb", "c"),
        ({"train": SPLITS["train"]}, LAYOUT, "rgb", "c"),
    ]:
        with pytest.raises(ForeignFolder, match=r"holds 10 of 10 rows of another export .* Export to a new folder"):
            ReferenceWriter(tmp_path / "out", modality, splits, layout, content)
    assert contents(tmp_path / "out") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.txt").write_text("mine")
    with pytest.raises(ForeignFolder, match=r"not empty \(train\.txt\) and no export"):
        ReferenceWriter(tmp_path / "mine", "rgb", SPLITS, LAYOUT, "c")
    with pytest.raises(ForeignFolder, match="a file"):
        ReferenceWriter(tmp_path / "mine" / "train.txt", "rgb", SPLITS, LAYOUT, "c")
    (tmp_path / "mine" / ".export.json").write_text("[1]")
    with pytest.raises(ForeignFolder, match="no mark of an export"):
        ReferenceWriter(tmp_path / "mine", "rgb", SPLITS, LAYOUT, "c")
    assert (tmp_path / "mine" / "train.txt").read_text() == "mine"


def test_an_export_whose_files_were_changed_is_damaged(tmp_path: Path) -> None:
    export(tmp_path / "out")
    video = tmp_path / "out" / "video_rgb_iccv.h5"
    whole = video.read_bytes()
    video.write_bytes(whole[:-9])
    with pytest.raises(DamagedExport, match=r"video_rgb_iccv\.h5: 10 rows were exported, but .*truncated"):
        ReferenceWriter(tmp_path / "out", "rgb", SPLITS, LAYOUT, "c")
    with h5py.File(video, "w") as file:
        file["train"], file["test"] = np.zeros((7, 6), "<f4"), np.zeros((3, 6), "<f4")
    with pytest.raises(DamagedExport, match=r"train is float32 \(7, 6\)"):
        ReferenceWriter(tmp_path / "out", "rgb", SPLITS, LAYOUT, "c")
    video.write_bytes(whole)
    (tmp_path / "out" / "test.txt").unlink()
    with pytest.raises(DamagedExport, match=r"test\.txt: .*it is gone.* Delete .* and export again"):
        ReferenceWriter(tmp_path / "out", "rgb", SPLITS, LAYOUT, "c")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "features",
            np.zeros((6, 4, 2, 2), np.float16),
            r"features is float16 \(6, 4, 2, 2\); this export's is float32",
        ),
        ("features", np.zeros((1, 6, 4, 2, 2), np.float32), r"features is float32 \(1, 6, 4, 2, 2\)"),
        ("features", np.full((6, 4, 2, 2), np.inf, np.float32), "96 of 96 values of features are not finite"),
        ("words", np.full((5, 3), np.nan, np.float32), "15 of 15 values of words are not finite"),
        ("words", np.zeros((5, 4), np.float32), r"words is float32 \(5, 4\)"),
        ("medium", np.zeros((8, 8), bool), r"medium is bool \(8, 8\)"),
        ("small", np.full((2, 2), 255, np.uint8), "the small mask holds 255"),
    ],
)
def test_a_row_that_does_not_fit_is_an_error_that_names_its_sample(
    tmp_path: Path, name: str, value: np.ndarray, says: str
) -> None:
    def row(split: str, number: int) -> ReferenceRow:
        return replace(made(split, number), **{name: value}) if number == 4 else made(split, number)

    writer = ReferenceWriter(tmp_path / "out", "rgb", SPLITS, LAYOUT, "c")
    with pytest.raises(WrongReferenceRow, match=r"train sample 4 \(vidéo 4/00004, \"a\" cat\): .*" + says):
        writer.write(row, mark_every=1)
    again = ReferenceWriter(tmp_path / "out", "rgb", SPLITS, LAYOUT, "c")
    assert (again.done, again.write(made), again.finished) == (4, 6, True)
    export(tmp_path / "other")
    assert contents(tmp_path / "out") == contents(tmp_path / "other")


def test_what_the_layout_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    test = {"test": SPLITS["test"]}
    for modality, splits, layout, says in [
        ("depth", test, LAYOUT, "modality 'depth': expected one of rgb, flow"),
        ("rgb", {}, LAYOUT, "expected train, test or both"),
        ("rgb", {**test, "train": []}, LAYOUT, r"'train': 0"),
        ("rgb", {"val": SPLITS["test"]}, LAYOUT, "expected train, test or both"),
        ("rgb", test, replace(LAYOUT, mask=24), "a mask side that 16 divides"),
        ("rgb", test, replace(LAYOUT, words=(0, 3)), "lengths of at least 1"),
        ("rgb", {"test": [ReferenceSample("a\nb", 1, 1)]}, LAYOUT, "test sample 0: .* a printable name"),
        ("rgb", {"test": [ReferenceSample("a", 0, 1)]}, LAYOUT, "a positive size"),
    ]:
        with pytest.raises(WrongExport, match=says):
            ReferenceWriter(tmp_path / "out", modality, splits, layout, "c")
    with pytest.raises(NoRoom, match=r"3 rows need 1,2\d\d,\d+,\d+,\d+,\d+ bytes; [\d,]+ are free\. Make room"):
        ReferenceWriter(tmp_path / "out", "rgb", test, replace(LAYOUT, features=(10**6, 10**3, 100, 10**3)), "c")
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    layout = ReferenceLayout(features=(64, 4, 16, 16), words=(5, 3), mask=32)
    features = np.ones((64, 4, 16, 16), np.float32)

    def row(split: str, number: int) -> ReferenceRow:
        return replace(made(split, number), features=features + np.float32(number))

    writer = ReferenceWriter(tmp_path, "rgb", {"train": [ReferenceSample("a", 1, 1)] * 64}, layout, "c")
    tracemalloc.start()
    try:
        writer.write(row, mark_every=16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * writer.bytes_per_row
