"""Data sets in the layouts of Ref-YouTube-VOS and MeViS give what a folder over the same pictures and masks gives."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import rvos_folder
from commands import Acga
from rvos_folder import Clip

from extractors.shards.shard import ShardReader

Row = tuple[str, ...]


def config(folder: Path, kind: str, root: Path) -> Path:
    path = folder / f"{kind}.toml"
    own = 'labelled = "even:2"\ngroups = "groups.csv"' if kind == "rvos" else 'groups = ""'
    path.write_text(f'extends = "tiny"\n\n[dataset]\nkind = "{kind}"\nroot = "{root}"\n{own}\n')
    return path


def digest(arrays: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def rows(store: Path, stage: str, file: str, *arrays: str) -> dict[str, str]:
    """The content of every row of the shards of a stage, by its id."""
    found = {}
    for path in store.glob(f"{stage}/*/attempt-*/{file}"):
        shard = ShardReader(path)
        for row, name in enumerate(shard.ids):
            found[name] = digest([shard.read(array, row) for array in arrays])
    return found


def samples(store: Path) -> list[Row]:
    """Clip, sentence, group and content of the masks of each sample."""
    masks = rows(store, "Masks", "masks.h5", "large", "medium", "small")
    return sorted(
        (sample["clip"], sample["text"], sample["group"], masks[sample["mask"]])
        for path in store.glob("Samples/*/attempt-*/samples.json")
        for sample in json.loads(path.read_text())["samples"]
        if sample["shown"]
    )


@pytest.fixture
def clips(miniature: Path) -> list[Clip]:
    """Tiny's videos without a sentence that is there twice, which a folder refuses."""
    table = miniature / "text_annotations" / "a2d_annotation.txt"
    table.write_text("\n".join(dict.fromkeys(table.read_text().splitlines())) + "\n")
    return rvos_folder.clips(miniature)


@pytest.mark.slow
def test_the_layouts_give_what_a_folder_gives(acga: Acga, clips: list[Clip], tmp_path: Path) -> None:
    layouts = {"folder": rvos_folder.folder, "youtube": rvos_folder.youtube, "mevis": rvos_folder.mevis}
    metrics = {}
    for name, written in layouts.items():
        written(clips, tmp_path / "data" / name)
        own = config(tmp_path, "folder" if name == "folder" else "rvos", tmp_path / "data" / name)
        checked = acga("check", own, "--store", tmp_path / name)
        assert checked.code == 0, checked.output
        done = acga("run", own, "--store", tmp_path / name, "--json")
        assert done.code == 0, done.errors
        assert Path(done.document["report"]).is_file()
        metrics[name] = done.document["metrics"]
    for name in ("youtube", "mevis"):
        for stage, file, arrays in (
            ("Frames", "frames.h5", ("frames",)),
            ("VisualFeatures", "visual.h5", ("features", "scale")),
        ):
            found = rows(tmp_path / name, stage, file, *arrays)
            assert len(found) == 2 * len(clips) and found == rows(tmp_path / "folder", stage, file, *arrays)
        assert samples(tmp_path / name) == samples(tmp_path / "folder")
        assert metrics[name] == metrics["folder"]


def test_what_changes_is_made_again_alone(acga: Acga, clips: list[Clip], tmp_path: Path) -> None:
    """What an expression of MeViS means is part of the masks, and of nothing else before the samples."""
    data, store = tmp_path / "data", tmp_path / "store"
    rvos_folder.mevis(clips, data)
    own = config(tmp_path, "rvos", data)
    until = ("--until", "Samples", "--store", store, "--json")
    assert acga("run", own, *until).code == 0
    file = data / "train" / "meta_expressions.json"
    document = json.loads(file.read_text())
    video = next(iter(document["videos"].values()))
    expression = video["expressions"]["0"]
    expression["obj_id"], expression["anno_id"] = expression["obj_id"][:1], expression["anno_id"][:1]
    file.write_text(json.dumps(document))
    done = acga("run", own, *until)
    assert done.code == 0, done.errors
    assert done.document["executed"] == {"Masks": 1, "Samples": 1}


def test_check_and_run_name_what_is_wrong(acga: Acga, clips: list[Clip], tmp_path: Path) -> None:
    data, store = tmp_path / "data", tmp_path / "store"
    rvos_folder.youtube(clips, data)
    own = config(tmp_path, "rvos", data)
    file = data / "meta_expressions" / "train" / "meta_expressions.json"
    document = json.loads(file.read_text())
    video, found = next(iter(document["videos"].items()))
    found["expressions"]["0"]["obj_id"] = "77"
    file.write_text(json.dumps(document))
    done = acga("check", own, "--store", store)
    assert done.code == 1
    assert [line for line in done.output.splitlines() if line.startswith("error: ")] == [
        f"error: {video}: the object of expression 0 is in none of its masks; correct its obj_id"
    ]
    found["expressions"]["0"] = {"exp": "", "obj_id": "1"}
    found["frames"].append("99999")
    file.write_text(json.dumps(document))
    for command, code, prefix in (("check", 1, "error: "), ("run", 2, "acga: ")):
        done = acga(command, own, "--store", store)
        said = [line for line in (done.output + done.errors).splitlines() if line.startswith(prefix)]
        assert done.code == code and len(said) == 2, said
        assert f"video {video}, expression 0: exp '' has no word" in said[0]
        assert f"video {video}: frame 99999 is listed, but not in train/JPEGImages/{video}" in said[1]
    assert not list(store.glob("*/*/manifest.json"))
