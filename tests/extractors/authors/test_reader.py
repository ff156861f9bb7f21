"""The authors' layout as we read it: any folder that holds it, and a clear word about one that does not."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.authors import reader
from extractors.authors.reader import CorruptReference, ReferenceFolder, ReferenceSample, WrongReference, WrongValues
from extractors.authors.writer import ReferenceLayout, ReferenceRow, ReferenceWriter

ROOT = Path(reader.__file__).parents[2]
ROWS = {"train": 4, "test": 2}


def values(split: str) -> dict[str, np.ndarray]:
    """The arrays of a split, whole, by file and dataset."""
    random, rows = np.random.default_rng(ROWS[split]), ROWS[split]
    return {
        f"video_rgb_iccv.h5 {split}": random.standard_normal((rows, 1, 6, 4, 2, 2), np.float32),
        f"txt.h5 {split}": random.standard_normal((rows, 5, 3), np.float32),
        **{
            f"mask.h5 {split}/{name}": random.integers(0, 2, (rows, side, side), np.uint8)
            for name, side in (("large", 32), ("medium", 8), ("small", 2))
        },
    }


def put(folder: Path, place: str, array: np.ndarray | None, **layout: object) -> None:
    """Replaces a dataset; None takes it away."""
    file, key = place.split()
    with h5py.File(folder / file, "a") as opened:
        if key in opened:
            del opened[key]
        if array is not None:
            opened.create_dataset(key, data=array, **layout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the authors' table has it, made with h5py alone."""
    made = tmp_path / "preprocessed"
    made.mkdir()
    for split, rows in ROWS.items():
        (made / f"{split}.txt").write_text("".join(f"{split} {row},{240 + row},320\n" for row in range(rows)))
        for place, array in values(split).items():
            put(made, place, array)
    return made


def test_a_folder_of_the_authors_is_read_row_by_row(folder: Path) -> None:
    reader = ReferenceFolder(folder)
    assert reader.splits() == ("train", "test")
    assert reader.modality == "rgb"
    assert reader.features_shape == (6, 4, 2, 2) and reader.words_shape == (5, 3)
    assert [reader.mask_side(name) for name in ("large", "medium", "small")] == [32, 8, 2]
    assert reader.samples("test") == (ReferenceSample("test 0", 240, 320), ReferenceSample("test 1", 241, 320))
    for split, rows in ROWS.items():
        assert reader.rows(split) == rows
        expected = values(split)
        for row in range(rows):
            np.testing.assert_array_equal(reader.features(split, row), expected[f"video_rgb_iccv.h5 {split}"][row, 0])
            np.testing.assert_array_equal(reader.words(split, row), expected[f"txt.h5 {split}"][row])
            for name in ("large", "medium", "small"):
                np.testing.assert_array_equal(reader.mask(split, name, row), expected[f"mask.h5 {split}/{name}"][row])
    with pytest.raises(WrongReference, match=r"bbox\.h5, dataset test/large: no such dataset"):
        reader.bbox("test", "large", 0)
    with pytest.raises(WrongReference, match="no val split; it has train, test"):
        reader.samples("val")
    for outside in (-1, 2):
        with pytest.raises(IndexError, match=r"row -?\d of 2"):
            reader.features("test", outside)
    put(folder, "bbox.h5 test/large", np.arange(8).reshape(2, 4))
    reader.close()
    assert ReferenceFolder(folder).bbox("test", "large", 1).tolist() == [4, 5, 6, 7]


def test_one_split_one_modality_and_other_ways_of_storing_are_read(folder: Path) -> None:
    (folder / "video_rgb_iccv.h5").rename(folder / "video_flow_iccv.h5")
    (folder / "train.txt").unlink()
    for place, array in values("train").items():
        put(folder, place.replace("rgb", "flow"), None)
        tested = place.replace("train", "test").replace("rgb", "flow")
        stored = values("test")[place.replace("train", "test")]
        if array.dtype == np.uint8:
            put(folder, tested, stored.astype(bool), chunks=(1, *stored.shape[1:]), compression="gzip")
        else:
            put(folder, tested, stored.astype(">f4"))
    reader = ReferenceFolder(folder)
    assert (reader.splits(), reader.modality) == (("test",), "flow")
    expected = values("test")
    found = reader.features("test", 1)
    np.testing.assert_array_equal(found, expected["video_rgb_iccv.h5 test"][1, 0])
    assert found.dtype == np.dtype(np.float32) and found.dtype.isnative
    mask = reader.mask("test", "large", 1)
    np.testing.assert_array_equal(mask, expected["mask.h5 test/large"][1])
    assert mask.dtype == np.uint8
    shutil.copy(folder / "video_flow_iccv.h5", folder / "video_rgb_iccv.h5")
    assert ReferenceFolder(folder, "rgb").modality == "rgb"
    with pytest.raises(WrongReference, match=r"found video_rgb_iccv\.h5, video_flow_iccv\.h5; expected one of them"):
        ReferenceFolder(folder)
    (folder / "video_rgb_iccv.h5").unlink()
    with pytest.raises(WrongReference, match=r"found video_flow_iccv\.h5; expected video_rgb_iccv\.h5"):
        ReferenceFolder(folder, "rgb")


def test_the_text_files_may_have_quotes_blank_lines_more_columns_and_any_line_ends(folder: Path) -> None:
    text = '\ufeff"a, ""b""\nc",240 ,320\r\n\r\n  \r\n, 7,09,extra,\r\n'
    (folder / "test.txt").write_bytes(text.encode())
    samples = ReferenceFolder(folder).samples("test")
    assert samples == (ReferenceSample('a, "b"\nc', 240, 320), ReferenceSample("", 7, 9))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,height,width\na,1,2\nb,1,2\n", "line 1: found 'name,height,width'; expected a name, then height"),
        ("a,1,2\nb,0,2\n", "line 2: found 'b,0,2'"),
        ("a,1,2\nb,1,-2\n", "line 2"),
        ("a,1,2\nb,1,2.5\n", "line 2"),
        ("a,1,2\n\nb,1\n", "line 3: found 'b,1'"),
        ("a,1,2\nb,,2\n", "line 2"),
        ("a,1,2\n,,\n", "line 2"),
        ('a,1,2\n"b,1,2\n', r"line \d: no CSV in UTF-8 \(unexpected end of data"),
        (
            "a,1,2\n",
            r"found \(2, 1, 6, 4, 2, 2\) float32; expected \(1, 1, C, T, h, w\) .* with the 1 row of test.txt",
        ),
        ("", r"expected \(0, 1, C"),
    ],
)
def test_a_text_file_that_says_no_sizes_is_an_error(folder: Path, text: str, says: str) -> None:
    (folder / "test.txt").write_text(text)
    with pytest.raises(WrongReference, match=says):
        ReferenceFolder(folder)


def _latin(folder: Path) -> None:
    (folder / "test.txt").write_bytes("é,1,2\nb,1,2\n".encode("latin-1"))


def _without_a_list(folder: Path) -> None:
    (folder / "train.txt").unlink()


def _without_words(folder: Path) -> None:
    (folder / "txt.h5").unlink()


def _group(folder: Path) -> None:
    put(folder, "txt.h5 test", None)
    put(folder, "txt.h5 test/large", np.zeros(2))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_latin, "no CSV in UTF-8"),
        (_without_a_list, r"the train split has video_rgb_iccv\.h5 train, .*, but not train\.txt\. Obtain"),
        (_without_words, r"the train split has train\.txt, .*, but not txt\.h5 train"),
        (_group, r"the test split has .* but not txt\.h5 test\."),
        (
            ("video_rgb_iccv.h5 test", np.zeros((2, 6, 4, 2, 2), "f4")),
            r"found \(2, 6, 4, 2, 2\) float32; expected \(2, 1, C",
        ),
        (("video_rgb_iccv.h5 test", np.zeros((2, 2, 6, 4, 2, 2), "f4")), r"found \(2, 2, 6"),
        (("video_rgb_iccv.h5 test", np.zeros((2, 1, 6, 4, 0, 2), "f4")), r"found \(2, 1, 6, 4, 0"),
        (("video_rgb_iccv.h5 test", np.zeros((2, 1, 6, 4, 2, 2), "f2")), r"float16; expected .* float32"),
        (
            ("video_rgb_iccv.h5 test", np.zeros((2, 1, 8, 4, 2, 2), "f4")),
            r"\(8, 4, 2, 2\), but \(6, 4, 2, 2\) in the other",
        ),
        (
            ("txt.h5 test", np.zeros((3, 5, 3), "f4")),
            r"txt\.h5, dataset test: found \(3, 5, 3\) .* the 2 rows of test\.txt",
        ),
        (
            ("mask.h5 test/large", np.zeros((2, 32, 32), "f4")),
            r"test/large: found .* float32; expected \(2, 32, 32\) uint8",
        ),
        (("mask.h5 test/large", np.zeros((2, 24, 24), "u1")), r"found \(2, 24, 24\) uint8; expected \(2, 16, 16\)"),
        (("mask.h5 test/large", np.uint8(1)), r"test/large: found \(\)"),
        (("mask.h5 test/medium", np.zeros((2, 16, 16), "u1")), r"test/medium: found .* expected \(2, 8, 8\)"),
        (("mask.h5 test/small", None), r"but not mask\.h5 test/small"),
    ],
)
def test_a_folder_of_another_layout_is_an_error_that_says_what_was_expected(
    folder: Path, change: Callable[[Path], None] | tuple[str, np.ndarray | None], says: str
) -> None:
    if isinstance(change, tuple):
        put(folder, *change)
    else:
        change(folder)
    with pytest.raises(WrongReference, match=says):
        ReferenceFolder(folder)


def test_a_folder_that_is_not_there_or_empty_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WrongReference, match="no folder"):
        ReferenceFolder(tmp_path / "none")
    with pytest.raises(WrongReference, match=r"found no video_\*_iccv\.h5"):
        ReferenceFolder(tmp_path)
    with h5py.File(tmp_path / "video_rgb_iccv.h5", "w"):
        pass
    with pytest.raises(WrongReference, match=r"no split; expected train\.txt or test\.txt"):
        ReferenceFolder(tmp_path)


def test_files_that_are_cut_no_hdf5_or_were_never_written_are_corrupt(folder: Path) -> None:
    whole = (folder / "mask.h5").read_bytes()
    os.truncate(folder / "mask.h5", len(whole) - 100)
    with pytest.raises(
        CorruptReference, match=r"mask\.h5: not a whole HDF5 file \(.*truncated.* Obtain the file again"
    ):
        ReferenceFolder(folder)
    (folder / "mask.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(CorruptReference, match=r"mask\.h5: not a whole HDF5 file \(.*signature"):
        ReferenceFolder(folder)
    (folder / "mask.h5").write_bytes(whole)
    with h5py.File(folder / "txt.h5", "a") as file:
        del file["test"]
        file.create_dataset("test", (2, 5, 3), "f4")
    with pytest.raises(CorruptReference, match=r"txt\.h5, dataset test: was never written"):
        ReferenceFolder(folder)


def test_a_chunk_that_does_not_decompress_is_corrupt(folder: Path) -> None:
    words = values("test")["txt.h5 test"]
    put(folder, "txt.h5 test", words, chunks=(1, 5, 3), compression="gzip")
    with h5py.File(folder / "txt.h5") as file:
        offset = file["test"].id.get_chunk_info(1).byte_offset
    with (folder / "txt.h5").open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\0" * 16)
    reader = ReferenceFolder(folder)
    np.testing.assert_array_equal(reader.words("test", 0), words[0])
    with pytest.raises(CorruptReference, match=r"dataset test, row 1 \(test 1\): does not read"):
        reader.words("test", 1)


def test_values_that_cannot_be_are_errors_that_name_the_sample(folder: Path) -> None:
    expected = values("train")
    expected["video_rgb_iccv.h5 train"][2, 0, 1, 1, 1] = np.nan
    expected["txt.h5 train"][1, 0, 0] = np.inf
    expected["mask.h5 train/small"][3, 0, 0] = 255
    for place, array in expected.items():
        put(folder, place, array)
    reader = ReferenceFolder(folder)
    with pytest.raises(WrongValues, match=r"dataset train, row 2 \(train 2\): 2 of 96 values are not finite"):
        reader.features("train", 2)
    with pytest.raises(WrongValues, match=r"row 2 \(train 2\)"):
        reader.distinct_features("train")
    with pytest.raises(WrongValues, match=r"txt\.h5, dataset train, row 1 \(train 1\): 1 of 15"):
        reader.words("train", 1)
    with pytest.raises(WrongValues, match=r"train/small, row 3 \(train 3\): the mask holds 255"):
        reader.mask("train", "small", 3)
    np.testing.assert_array_equal(reader.features("train", 1), expected["video_rgb_iccv.h5 train"][1, 0])


def test_equal_feature_maps_are_found(folder: Path) -> None:
    features = np.zeros((4, 1, 6, 4, 2, 2), np.float32)
    features[1, 0, 5, 3, 1, 1] = 1e-30
    features[3] = features[1]
    put(folder, "video_rgb_iccv.h5 train", features)
    told: list[tuple[int, int]] = []
    assert ReferenceFolder(folder).distinct_features("train", lambda *row: told.append(row)) == ([0, 1], [0, 1, 0, 1])
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@settings(max_examples=25, deadline=None)
@given(
    fills=st.lists(st.floats(-4, 4, width=16), min_size=1, max_size=12),
    data=st.data(),
)
def test_whatever_is_written_is_read_and_equal_maps_are_stored_once(
    tmp_path_factory: pytest.TempPathFactory, fills: list[float], data: st.DataObject
) -> None:
    characters = st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S"), include_characters=" ")
    printable = st.text(characters, min_size=1)
    drawn = st.lists(printable, min_size=len(fills), max_size=len(fills))
    samples = [ReferenceSample(name, 1 + row, 5) for row, name in enumerate(data.draw(drawn))]
    masks = (np.zeros((16, 16), np.uint8), np.ones((4, 4), np.uint8), np.ones((1, 1), np.uint8))

    def row(split: str, number: int) -> ReferenceRow:
        features = np.full((2, 1, 1, 3), fills[number], np.float32)
        return ReferenceRow(features, np.full((2, 2), number, np.float32), *masks)

    folder = tmp_path_factory.mktemp("reference")
    layout = ReferenceLayout(features=(2, 1, 1, 3), words=(2, 2), mask=16)
    ReferenceWriter(folder, "flow", {"test": samples}, layout, "c").write(row)
    reader = ReferenceFolder(folder)
    assert list(reader.samples("test")) == samples
    assert reader.bbox("test", "medium", 0).tolist() == [0, 0, 4, 4]
    written = [np.float32(fill).tobytes() for fill in fills]  # -0.0 is not 0.0
    distinct = list(dict.fromkeys(written))
    expected = [written.index(fill) for fill in distinct], [distinct.index(fill) for fill in written]
    assert reader.distinct_features("test") == expected
    for number in range(len(fills)):
        assert reader.features("test", number).tobytes() == row("test", number).features.tobytes()
        assert reader.words("test", number).tolist() == [[number] * 2] * 2
    reader.close()


def test_a_reader_travels_to_other_processes(folder: Path) -> None:
    reader = ReferenceFolder(folder)
    reader.features("test", 0)
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.features("test", 1), reader.features("test", 1))
    script = (
        "import os, sys; from pathlib import Path\n"
        "from extractors.authors.reader import ReferenceFolder, WrongReference\n"
        "folder = Path(sys.argv[1]); reader = ReferenceFolder(folder)\n"
        "expected = [reader.features('train', row).copy() for row in range(4)]\n"
        "def same(): return all((reader.features('train', row) == expected[row]).all() for row in (*range(4),) * 20)\n"
        "def in_a_child(answer):\n"
        "    child = os.fork()\n"
        "    if not child: os._exit(0 if answer() else 1)\n"
        "    return child\n"
        "children = [in_a_child(same) for _ in range(2)]; here = same()\n"
        "assert here and not any([os.waitpid(child, 0)[1] for child in children])\n"
        "(folder / 'video_rgb_iccv.h5').unlink()\n"
        "def opens_its_own():\n"
        "    try: return not same()\n"
        "    except WrongReference: return True\n"
        "assert os.waitpid(in_a_child(opens_its_own), 0)[1] == 0 and same()"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
