"""Odd and damaged annotation files: each is read, and then as the libraries read it, or refused by a named error."""

import csv
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from data.defects import Hits
from data.readers import a2d, jhmdb
from data.readers.annotations import EmptyAnnotations, MalformedAnnotations, MaskSizeMismatch, MissingFile, clean

Refusal = tuple[type[Exception], str]

HEIGHT, WIDTH, FRAMES = 40, 52, 6
_ROWS, _COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
MASKS = np.stack([np.equal((_ROWS // 8 + _COLUMNS // 10) % 4, row) for row in range(3)]).astype(np.uint8)  # disjoint
PUPPET = np.stack([(_ROWS + 3 * time) // 9 % 2 for time in range(FRAMES)], axis=2).astype(np.uint8)
IDS, LABELS = np.array([2, 0, 5]), np.array([[11.0, 79.0, 36.0]])


# ---- A2D's HDF5 files


def hdf5(**changed: Any) -> bytes:
    """A good annotation file as MATLAB leaves it, with datasets changed, added, or left out (None)."""
    stored: dict[str, Any] = {"reMask": MASKS.transpose(0, 2, 1), "instance": IDS, "id": LABELS} | changed
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        for name, values in stored.items():
            if isinstance(values, np.ndarray) and name == "reMask" and values.ndim == 3 and values.size:
                made.create_dataset(name, data=values, chunks=(1, 26, 20), compression="gzip")
            elif callable(values):
                values(made, name)
            elif values is not None:
                made[name] = values
    return file.getvalue()


def upright(masks: np.ndarray) -> np.ndarray:
    return masks.transpose(0, 2, 1)


def references(file: h5py.File, name: str) -> None:
    file["one"] = np.zeros((WIDTH, HEIGHT), np.uint8)
    file.create_dataset(name, data=np.full((3, WIDTH, HEIGHT), file["one"].ref, dtype=h5py.ref_dtype))


def never_written(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (3, WIDTH, HEIGHT), np.uint8, chunks=(1, 26, 20), compression="gzip")


def half_written(file: h5py.File, name: str) -> None:
    never_written(file, name)
    file[name][:2] = upright(MASKS[:2])


def elsewhere(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (3, WIDTH, HEIGHT), np.uint8, external=[("gone.raw", 0, h5py.h5f.UNLIMITED)])


HDF5_READ = {
    "good": hdf5(),
    "no labels": hdf5(id=None),
    "masks of MATLAB's type logical": hdf5(reMask=upright(MASKS).astype(bool)),
    "masks of type double": hdf5(reMask=upright(MASKS).astype(np.float64)),
    "not compressed": hdf5(reMask=lambda file, name: file.create_dataset(name, data=upright(MASKS))),
    "ids of type double in a row": hdf5(instance=np.array([[2.0, 0.0, 5.0]])),
    "ids in a column": hdf5(instance=np.array([[2], [0], [5]], np.uint8)),
    "surplus masks": hdf5(instance=np.array([2, 0]), id=LABELS[:, :2]),
    "surplus masks with labels": hdf5(instance=np.array([2, 0])),
    "other datasets beside": hdf5(reS_id=np.zeros((WIDTH, HEIGHT), np.uint8), note=b"made today"),
    "one mask with two axes": hdf5(reMask=upright(MASKS)[0], instance=IDS[:1], id=LABELS[:, :1]),
    "one mask with three axes": hdf5(reMask=upright(MASKS)[:1], instance=IDS[:1], id=LABELS[:, :1]),
}

BAD = MalformedAnnotations
HDF5_REFUSED: dict[str, tuple[bytes, Refusal]] = {
    "an empty file": (b"", (BAD, "not a readable HDF5 file")),
    "a text file": (b"video_id,instance_id,query\n", (BAD, "not a readable HDF5 file")),
    "no masks": (hdf5(reMask=None), (BAD, "holds id, instance; expected reMask and instance")),
    "A2D's own .mat, without instances": (hdf5(instance=None), (BAD, "holds id, reMask; expected")),
    "a group for an array": (hdf5(reMask=lambda file, name: file.create_group(name)), (BAD, "reMask is no array")),
    "a link to nowhere": (hdf5(reMask=h5py.SoftLink("/gone")), (BAD, "not a readable HDF5 file")),
    "a link to another file": (hdf5(reMask=h5py.ExternalLink("gone.h5", "/")), (BAD, "not a readable HDF5 file")),
    "masks in another file": (hdf5(reMask=elsewhere), (BAD, "parts of /reMask are not in the file")),
    "masks never written": (hdf5(reMask=never_written), (BAD, "parts of /reMask are not in the file")),
    "masks half written": (hdf5(reMask=half_written), (BAD, "parts of /reMask are not in the file")),
    "object references": (hdf5(reMask=references), (BAD, "masks of type object")),
    "complex masks": (hdf5(reMask=upright(MASKS) + 0j), (BAD, "masks of type complex128")),
    "a mask with a 2": (hdf5(reMask=2 * upright(MASKS)), (BAD, "a mask holds 2; expected 0 and 1")),
    "a mask with a half": (hdf5(reMask=upright(MASKS) / 2), (BAD, r"a mask holds 0\.5")),
    "a mask with a NaN": (hdf5(reMask=np.full((3, WIDTH, HEIGHT), np.nan)), (BAD, "a mask holds nan")),
    "one axis": (hdf5(reMask=np.ones(9, np.uint8)), (BAD, r"reMask of shape \(9,\)")),
    "four axes": (hdf5(reMask=upright(MASKS)[None]), (BAD, r"reMask of shape \(1, 3, 52, 40\)")),
    "no masks at all": (hdf5(reMask=np.zeros((0, WIDTH, HEIGHT))), (BAD, r"reMask of shape \(0, 52, 40\)")),
    "axes not reversed": (hdf5(reMask=MASKS), (MaskSizeMismatch, "masks of 52 x 40, but the video is 40 x 52")),
    "fewer masks than ids": (hdf5(instance=np.arange(4), id=None), (BAD, "3 masks for 4 instance ids")),
    "two ids repeated": (hdf5(instance=np.zeros(3)), (BAD, r"the instance ids \(0, 0, 0\); expected different")),
    "a fractional id": (hdf5(instance=np.array([0, 0.5, 1])), (BAD, r"instance holds \[0\.0, 0\.5, 1\.0\]")),
    "an id that is NaN": (hdf5(instance=np.array([0, np.nan, 1])), (BAD, "instance holds .*nan.*expected integers")),
    "an endless id": (hdf5(instance=np.array([0, np.inf, 1])), (BAD, "instance holds .*inf.*expected integers")),
    "a negative id": (hdf5(instance=np.array([0, -1, 1])), (BAD, "instance id -1; expected 0 or more")),
    "ids as text": (hdf5(instance=np.array([b"0", b"1", b"2"])), (BAD, r"instance has shape \(3,\) and type \|S1")),
    "no ids": (hdf5(instance=np.zeros((0,), np.int64)), (BAD, r"instance has shape \(0,\)")),
    "ids in a square": (hdf5(instance=np.zeros((2, 2))), (BAD, r"instance has shape \(2, 2\)")),
    "an id without an axis": (hdf5(instance=np.int64(1)), (BAD, r"instance has shape \(\)")),
    "a label that A2D has not": (hdf5(id=np.array([[11.0, 79.0, 14.0]])), (BAD, "labels 11, 79, 14 of 3 masks")),
    "a fractional label": (hdf5(id=LABELS + 0.5), (BAD, "id holds .*expected integers")),
    "fewer labels than ids": (hdf5(id=LABELS[:, :2]), (BAD, "labels 11, 79 of 3 masks; expected one each")),
}


@pytest.mark.parametrize("case", HDF5_READ)
def test_an_odd_hdf5_file_is_read_as_h5py_reads_it(tmp_path: Path, case: str) -> None:
    path = put(tmp_path / "video" / "00010.h5", HDF5_READ[case])
    found = a2d.read_instances(path, HEIGHT, WIDTH)
    with h5py.File(path) as file:
        ids = file["instance"][...].ravel().astype(int).tolist()
        masks = file["reMask"][...].reshape(-1, WIDTH, HEIGHT).swapaxes(1, 2)[: len(ids)]
        labels = file["id"][0, : len(ids)].astype(int).tolist() if "id" in file else [0] * len(ids)
    np.testing.assert_array_equal(found.masks, masks)
    assert (list(found.ids), list(found.labels)) == (ids, labels)
    assert found.hits == (("surplus_mask",) if "surplus" in case else ())


@pytest.mark.parametrize("case", HDF5_REFUSED)
def test_a_bad_hdf5_file_is_refused_by_an_error_that_names_the_record(tmp_path: Path, case: str) -> None:
    content, (error, says) = HDF5_REFUSED[case]
    path = put(tmp_path / "video" / "00010.h5", content)
    with pytest.raises(error, match=rf"^A2D video video, labelled frame 00010 .*{says}"):
        a2d.read_instances(path, HEIGHT, WIDTH)


def test_an_hdf5_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = hdf5()
    for length in range(0, len(whole), 97):
        path = put(tmp_path / "video" / "00010.h5", whole[:length])
        with pytest.raises(MalformedAnnotations, match="labelled frame 00010"):
            a2d.read_instances(path, HEIGHT, WIDTH)


def test_an_hdf5_file_with_zeroed_or_altered_bytes_never_gives_other_masks(tmp_path: Path) -> None:
    whole = hdf5()
    refused = 0
    for damage in damages(whole, 400):
        path = put(tmp_path / "video" / "00010.h5", damage)
        try:
            found = a2d.read_instances(path, HEIGHT, WIDTH)
        except (MalformedAnnotations, MaskSizeMismatch):
            refused += 1
        else:
            order = [IDS.tolist().index(instance) for instance in found.ids if instance in IDS]
            if len(order) == 3:  # the ids themselves have no checksum
                np.testing.assert_array_equal(found.masks, MASKS)
    assert refused > 100


# ---- J-HMDB's MATLAB files


def mat(variables: dict[str, Any] | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"part_mask": PUPPET} if variables is None else variables, **options)
    return file.getvalue()


def masked(values: Any) -> bytes:
    return mat({"part_mask": values})


def cells() -> np.ndarray:
    made = np.empty((2, 2, 2), object)
    made[...] = 1
    return made


MAT_READ = {
    "good": mat(),
    "compressed": mat(do_compression=True),
    "double": masked(PUPPET.astype(np.float64)),
    "single, compressed": mat({"part_mask": PUPPET.astype(np.float32)}, do_compression=True),
    "logical": masked(PUPPET.astype(bool)),
    "signed": masked(PUPPET.astype(np.int16)),
    "other variables beside": mat({"before": np.arange(3), "part_mask": PUPPET, "x": "text"}, do_compression=True),
    "one frame more than needed": masked(np.concatenate([PUPPET, PUPPET[:, :, :1]], axis=2)),
}
MAT_REFUSED: dict[str, tuple[bytes, Refusal]] = {
    "an empty file": (b"", (BAD, "it has no header")),
    "a text file": (b"video_id,query\n" * 20, (BAD, "it has no header")),
    "an HDF5 file": (hdf5(), (BAD, "it has no header")),
    "MATLAB v4": (mat({"part_mask": np.ones((4, 4))}, format="4"), (BAD, "it has no header")),
    "MATLAB v7.3": (mat()[:124] + b"\x00\x02IM" + hdf5(), (BAD, "it is of version 0x0200")),
    "a header alone": (mat()[:128], (BAD, "it holds nothing; expected part_mask once")),
    "another variable": (mat({"mask": PUPPET}), (BAD, "it holds mask; expected part_mask once")),
    "the variable twice": (mat() + mat()[128:], (BAD, "it holds part_mask, part_mask; expected part_mask once")),
    "two axes": (masked(PUPPET[:, :, 0]), (BAD, r"part_mask has the shape \(40, 52\)")),
    "four axes": (masked(PUPPET[..., None] * np.ones(2)), (BAD, r"has the shape \(40, 52, 6, 2\)")),
    "no frame": (masked(PUPPET[:, :, :0]), (BAD, r"has the shape \(40, 52, 0\)")),
    "cells": (masked(cells()), (BAD, "no array of real numbers")),
    "complex": (masked(PUPPET + 1j), (BAD, "no array of real numbers")),
    "a structure": (masked({"a": 1}), (BAD, r"part_mask has the shape \(1, 1\)")),
    "a mask with a 2": (masked(2 * PUPPET), (BAD, "a mask holds 2; expected 0 and 1")),
    "a mask with a NaN": (masked(np.where(PUPPET, np.nan, 0.0)), (BAD, "a mask holds nan")),
    "too few frames": (masked(PUPPET[:, :, :4]), (BAD, "the file has masks of frames 1 to 4")),
    "axes swapped": (masked(PUPPET.swapaxes(0, 1)), (MaskSizeMismatch, "masks of 52 x 40, but the video is 40 x 52")),
}


@pytest.mark.parametrize("case", MAT_READ)
def test_an_odd_matlab_file_is_read_as_scipy_reads_it(tmp_path: Path, case: str) -> None:
    path = put(tmp_path / "video" / "puppet_mask.mat", MAT_READ[case])
    oracle = scipy.io.loadmat(path)["part_mask"]
    for number in (1, 5):
        found = jhmdb.read_instances(path, number, HEIGHT, WIDTH)
        np.testing.assert_array_equal(found.masks[0], oracle[:, :, number - 1])


@pytest.mark.parametrize("case", MAT_REFUSED)
def test_a_bad_matlab_file_is_refused_by_an_error_that_names_the_record(tmp_path: Path, case: str) -> None:
    content, (error, says) = MAT_REFUSED[case]
    path = put(tmp_path / "video" / "puppet_mask.mat", content)
    with pytest.raises(error, match=rf"^J-HMDB video video.*({says})"):
        jhmdb.read_instances(path, 5, HEIGHT, WIDTH)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_matlab_file_cut_short_anywhere_is_refused(tmp_path: Path, compressed: bool) -> None:
    whole = mat(do_compression=compressed)
    for length in range(0, len(whole), 61):
        path = put(tmp_path / "video" / "puppet_mask.mat", whole[:length])
        with pytest.raises(MalformedAnnotations, match="J-HMDB video video"):
            jhmdb.read_instances(path, 5, HEIGHT, WIDTH)


def test_a_compressed_matlab_file_with_zeroed_or_altered_bytes_never_gives_other_masks(tmp_path: Path) -> None:
    refused = 0
    for damage in damages(mat(do_compression=True), 600):  # some of them end scipy's process
        path = put(tmp_path / "video" / "puppet_mask.mat", damage)
        try:
            found = jhmdb.read_instances(path, 5, HEIGHT, WIDTH)
        except MalformedAnnotations:
            refused += 1
        else:
            np.testing.assert_array_equal(found.masks[0], PUPPET[:, :, 4])
    assert refused > 100


# ---- the text files

HEADER = "video_id,instance_id,query\n"
PLAIN = HEADER + "-bcdefghijk,0,the bird  flies \n_bcdefghijk,1,A man\n"
TEXT_READ = {
    "good": PLAIN.encode(),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "CR LF": PLAIN.replace("\n", "\r\n").encode(),
    "CR alone": PLAIN.replace("\n", "\r").encode(),
    "no final line end": PLAIN.rstrip().encode(),
    "quotes around cells": b'video_id,instance_id,query\n"-bcdefghijk","0","a bird, flying"\n',
    "quotes doubled": b'video_id,instance_id,query\nvideo,0,"the ""bird"""\n',
    "a quote within": b'video_id,instance_id,query\nvideo,0,a man in 5" heels\n',
    "blank lines": PLAIN.replace("\n", "\n\n  \n").encode(),
    "letters beyond ASCII": (HEADER + "vidéo,0,la fée\n").encode(),
    "a tab": (HEADER + "video,0,a\tbird\n").encode(),
}
TEXT_REFUSED: dict[str, tuple[bytes, Refusal]] = {
    "an empty file": (b"", (EmptyAnnotations, "the file is empty")),
    "a header alone": (HEADER.encode(), (EmptyAnnotations, "no sentence")),
    "no header": (b"video,0,a bird\n", (BAD, "the first line is video,0,a bird")),
    "a missing column": (b"video_id,query\nvideo,a bird\n", (BAD, "the first line is video_id,query")),
    "a column more": (b"video_id,instance_id,short_query,query\n", (BAD, "short_query")),
    "a row cut short": ((HEADER + "video,0\n").encode(), (BAD, "line 2: 2 columns")),
    "a quote that does not close": ((HEADER + 'video,0,"a bird\nvideo,1,x\n').encode(), (BAD, "line 2: .*Correct its")),
    "a line end in quotes": ((HEADER + 'video,0,"a\nbird"\n').encode(), (BAD, "line 2: no row of comma-separated")),
    "letters after a quote": ((HEADER + 'video,0,"a" bird\n').encode(), (BAD, "line 2: no row of comma-separated")),
    "NUL bytes": (
        (HEADER + "video,0,a\0bird\n").encode(),
        (BAD, r"line 2: the control character '\\x00' at column 10"),
    ),
    "an escape": ((HEADER + "video,0,\x1b[1mbird\n").encode(), (BAD, r"line 2: the control character '\\x1b'")),
    "latin-1": ((HEADER + "video,0,la fée\n").encode("latin-1"), (BAD, "not UTF-8 text")),
    "UTF-16": (PLAIN.encode("utf-16"), (BAD, "not UTF-8 text")),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), (BAD, "line 1: the control character")),
    "an instance that is no number": (
        (HEADER + "video,first,x\n").encode(),
        (BAD, "line 2: video/first: the instance"),
    ),
    "an instance below zero": ((HEADER + "video,-1,x\n").encode(), (BAD, "line 2: video/-1: the instance id")),
    "an instance of 5,000 digits": (
        (HEADER + f"video,{'1' * 5000},x\n").encode(),
        (BAD, "the instance id is no number"),
    ),
    "a video without a name": ((HEADER + ",0,x\n").encode(), (BAD, "line 2: the video id '' can name no file")),
    "a video with a blank": ((HEADER + " video,0,x\n").encode(), (BAD, "line 2: the video id ' video'")),
    "a video in another folder": ((HEADER + "../video,0,x\n").encode(), (BAD, r"the video id '\.\./video'")),
    "a cell of 200,000 letters": ((HEADER + "video,0," + "x" * 200_000).encode(), (BAD, "line 2: .*field larger")),
}


@pytest.mark.parametrize("case", TEXT_READ)
def test_an_odd_text_file_is_read_as_the_csv_module_reads_it(tmp_path: Path, case: str) -> None:
    path = put(tmp_path / "a2d_annotation.txt", TEXT_READ[case])
    with path.open(newline=None, encoding="utf-8-sig") as file:
        rows = [row for row in csv.DictReader(file) if (row["query"] or "").strip()]
    found = a2d.read_queries(path, Hits())
    assert [(query.video, str(query.instance), query.text) for query in found] == [
        (row["video_id"], row["instance_id"], clean(row["query"])) for row in rows
    ]


@pytest.mark.parametrize("case", TEXT_REFUSED)
def test_a_bad_text_file_is_refused_by_an_error_that_names_the_line(tmp_path: Path, case: str) -> None:
    content, (error, says) = TEXT_REFUSED[case]
    path = put(tmp_path / "a2d_annotation.txt", content)
    with pytest.raises(error, match=says) as raised:
        a2d.read_queries(path, Hits())
    assert str(raised.value).startswith(str(path))


VIDEO = "video,11,00:00:00,00:00:02,6,8,60,2,0\n"
VIDEOSET_REFUSED = {
    "a video twice": (VIDEO + VIDEO, "line 2: video video is listed twice"),
    "a column less": (VIDEO.replace("11,", ""), "line 1: 8 columns"),
    "no frames": (VIDEO.replace(",60,", ",0,"), "line 1: 0 frames of 6 x 8"),
    "a height below zero": (VIDEO.replace(",6,", ",-6,"), "line 1: '-6' is no number"),
    "a width with an underscore": (VIDEO.replace(",8,", ",8_0,"), "line 1: '8_0' is no number"),
    "Arabic digits": (VIDEO.replace(",8,", ",٨,"), "line 1: '٨' is no number"),
    "a fractional height": (VIDEO.replace(",6,", ",6.5,"), r"line 1: '6\.5' is no number"),
    "a third split": (VIDEO.replace(",0\n", ",2\n"), "line 1: usage '2'"),
    "a video without a name": (VIDEO.replace("video", ""), "line 1: the video id ''"),
    "a video in another folder": (VIDEO.replace("video", "a/b"), "line 1: the video id 'a/b'"),
}


@pytest.mark.parametrize("case", VIDEOSET_REFUSED)
def test_a_bad_list_of_videos_is_refused_by_an_error_that_names_the_line(tmp_path: Path, case: str) -> None:
    content, says = VIDEOSET_REFUSED[case]
    with pytest.raises(MalformedAnnotations, match=says):
        a2d.read_videoset(put(tmp_path / "videoset.csv", content.encode()), Hits())


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    readers: tuple[Callable[[Path], object], ...] = (
        lambda path: a2d.read_queries(path, Hits()),
        lambda path: jhmdb.read_instances(path, 1, HEIGHT, WIDTH),
        lambda path: a2d.read_instances(path, HEIGHT, WIDTH),
    )
    for reader, error in zip(readers, (MissingFile, MissingFile, MalformedAnnotations), strict=True):
        with pytest.raises(error, match=str(tmp_path)):
            reader(tmp_path)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def damages(whole: bytes, count: int) -> list[bytes]:
    """The bytes with one bit turned, some bytes replaced or a span of zeros, at places drawn from a fixed seed."""
    rng, made = random.Random(5), []
    for turn in range(count):
        changed, start = bytearray(whole), rng.randrange(len(whole))
        if turn % 3 == 0:
            changed[start] ^= 1 << rng.randrange(8)
        elif turn % 3 == 1:
            changed[start] = rng.randrange(256)
        else:
            length = min(rng.choice((8, 64, 512)), len(whole) - start)
            changed[start : start + length] = bytes(length)
        made.append(bytes(changed))
    return made
