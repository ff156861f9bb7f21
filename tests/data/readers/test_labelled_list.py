"""Lists of J-HMDB's labelled frames in MTTR's form."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from malformed import anything, mutated

from data.readers import labelled_list
from data.readers.annotations import MalformedLabelledList, MissingFile
from data.readers.labelled_list import Labelled

PULLUP = "100_pullups_pullup_f_nm_np1_fr_med_1"


def row(video: str, number: int, frames: int) -> list[Any]:
    root = "./jhmdb_sentences"
    picture = f"{root}/Rename_Images/pullup/{video}/{number:05d}.png"
    return [video, picture, f"{root}/puppet_mask/pullup/{video}/puppet_mask.mat", frames, "man in black pulling up"]


ROWS = [row(PULLUP, number, 40) for number in (2, 8, 18)]


def test_three_rows_are_a_videos_labelled_frames(tmp_path: Path) -> None:
    others = [row("b(1)", number, 16) for number in (16, 1, 9)]
    assert read(tmp_path, ROWS + others) == {PULLUP: Labelled((2, 8, 18), 40), "b(1)": Labelled((1, 9, 16), 16)}


def test_paths_may_be_those_of_windows(tmp_path: Path) -> None:
    rows = [[video, picture.replace("/", "\\"), *rest] for video, picture, *rest in ROWS]
    assert read(tmp_path, rows) == {PULLUP: Labelled((2, 8, 18), 40)}


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + json.dumps(ROWS)) == {PULLUP: Labelled((2, 8, 18), 40)}


def changed(position: int, value: object) -> list[Any]:
    return [[*ROWS[0][:position], value, *ROWS[0][position + 1 :]], *ROWS[1:]]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("", "not JSON"),
        ("[[1, 2", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "no list of rows"),
        ({"rows": ROWS}, "no list of rows"),
        (["row"], "row 0: .*expected .video, picture"),
        ([ROWS[0][:4]], "row 0: .*expected .video, picture"),
        (changed(0, 7), "row 0: .*expected .video, picture"),
        (changed(3, "40"), "row 0: .*expected .video, picture"),
        (changed(3, True), "row 0: .*expected .video, picture"),
        (changed(3, 40.0), "row 0: .*expected .video, picture"),
        (changed(0, "another"), r"row 0: the picture .*expected \.\.\./another/<%05d>\.png"),
        (changed(1, f"a/{PULLUP}/2.png"), "row 0: the picture"),
        (changed(1, f"a/{PULLUP}/00002.jpg"), "row 0: the picture"),
        (changed(1, f"a/{PULLUP}/00000.png"), "row 0: frame 0 of 40; expected 1 to 40"),
        (changed(3, 1), "row 0: frame 2 of 1"),
        (changed(3, 10**30), "row 0: 10000000.* frames; expected 99999 or fewer"),
        (changed(4, None), "row 0: .*expected .video, picture"),
        ([None], "row 0: null; expected .video, picture"),
        ([[[]] * 5], "row 0: .*expected .video, picture"),
        ('[{"a": 1, "a": 2}]', r"\[0\]: the key 'a' is there twice"),
        ("[NaN]", r"\[0\]: NaN"),
        ('[["\\ud800"]]', "half of a surrogate pair"),
        ("[" + "9" * 5000 + "]", "thousands of digits"),
        ([["[" * 9] * 10**5], "row 0: a list of 100000 entries"),
        (changed(3, 39), rf"video {PULLUP}: frames \[2, 8, 18\] of \[39, 40\]; expected 3"),
        (ROWS[:2], r"frames \[2, 8\] of \[40\]; expected 3"),
        ([*ROWS, row(PULLUP, 20, 40)], "expected 3 different ones"),
        ([*ROWS[:2], ROWS[0]], "expected 3 different ones"),
    ],
)
def test_a_list_of_another_form_is_an_error_that_names_the_row(tmp_path: Path, document: Any, says: str) -> None:
    with pytest.raises(MalformedLabelledList, match=says):
        read(tmp_path, document)


@given(mutated([*ROWS, *(row("b", number, 16) for number in (16, 1, 9))]))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_mutated_list_is_believed(tmp_path: Path, found: tuple[tuple[Any, ...], Any, Any]) -> None:
    place, _, document = found
    try:
        read(tmp_path, document)
    except MalformedLabelledList as error:
        assert "\n" not in str(error) and len(str(error)) < 600
    else:  # the paths of the masks and the sentences are not used, but are texts
        assert place[-1] in (2, 4) and isinstance(document[place[0]][place[1]], str)


@given(anything())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_no_list(tmp_path: Path, document: Any) -> None:
    with pytest.raises(MalformedLabelledList):
        read(tmp_path, document)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"list\.json \(No such file.*correct \[dataset\]\.labelled"):
        labelled_list.read(tmp_path / "list.json")


def read(folder: Path, document: Any) -> dict[str, Labelled]:
    path = folder / "list.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return labelled_list.read(path)
