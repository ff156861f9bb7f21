"""A data set of one's own: it gives what the same files give in A2D's layout, and runs from `init` to the report."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import PROJECT, Acga
from own_folder import converted

from extractors.shards.shard import ShardReader

REAL = PROJECT.parent / "shared" / "real" / "a2d"


def config(folder: Path, extends: str, root: Path) -> Path:
    path = folder / "own.toml"
    path.write_text(f'extends = "{extends}"\n\n[dataset]\nkind = "folder"\nroot = "{root}"\ngroups = ""\n')
    return path


def rows(store: Path, stage: str, file: str, arrays: tuple[str, ...]) -> dict[str, list[np.ndarray]]:
    """Every row of the shards of a stage, by its id."""
    found = {}
    for path in store.glob(f"{stage}/*/attempt-*/{file}"):
        shard = ShardReader(path)
        for row, name in enumerate(shard.ids):
            found[name] = [shard.read(array, row) for array in arrays]
    return found


def samples(store: Path) -> dict[str, dict]:
    return {
        sample["id"]: sample
        for path in store.glob("Samples/*/attempt-*/samples.json")
        for sample in json.loads(path.read_text())["samples"]
    }


def raised(name: str, place: int) -> str:
    """An id whose instance, the part `place`, counts from 1 as in a folder instead of from 0 as in A2D."""
    before, at, after = name.partition("@")
    parts = before.split("/")
    parts[place] = str(int(parts[place]) + 1)
    return "/".join(parts) + at + after


def same(expected: list[np.ndarray], found: list[np.ndarray]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(expected, found, strict=True))


def assert_equal(a2d: Path, own: Path) -> None:
    """Two stores hold the same clips, features, masks and samples."""
    for stage, file, arrays in (
        ("Frames", "frames.h5", ("frames",)),
        ("VisualFeatures", "visual.h5", ("features", "scale")),
    ):
        expected, found = rows(a2d, stage, file, arrays), rows(own, stage, file, arrays)
        assert expected.keys() == found.keys() and expected
        assert all(same(expected[name], found[name]) for name in expected)
    masks = ("large", "medium", "small")
    expected, found = rows(a2d, "Masks", "masks.h5", masks), rows(own, "Masks", "masks.h5", masks)
    assert {raised(name, 2) for name in expected} == found.keys()
    assert all(same(expected[name], found[raised(name, 2)]) for name in expected)
    theirs, ours = samples(a2d), samples(own)
    assert {raised(name, 1) for name in theirs} == ours.keys()
    for name, sample in theirs.items():
        other = ours[raised(name, 1)]
        assert [sample[key] == other[key] for key in ("clip", "text", "group", "shown")] == [True] * 4


@pytest.fixture
def distinct(miniature: Path) -> Path:
    """Tiny's data set in which no sentence of an instance is there twice, which a folder refuses."""
    table = miniature / "text_annotations" / "a2d_annotation.txt"
    table.write_text("\n".join(dict.fromkeys(table.read_text().splitlines())) + "\n")
    return miniature


@pytest.mark.slow
def test_a_folder_gives_what_the_layout_of_a2d_gives(acga: Acga, distinct: Path, tmp_path: Path) -> None:
    converted(distinct, tmp_path / "data")
    store = tmp_path / "store"
    a2d = acga.run(tmp_path / "a2d", "--set", f"dataset.root={distinct}")
    own = config(tmp_path, "tiny", tmp_path / "data")
    checked = acga("check", own, "--store", store)
    assert checked.code == 0, checked.output
    done = acga("run", own, "--store", store, "--json")
    assert done.code == 0, done.errors
    assert done.document["metrics"] == a2d["metrics"]
    assert_equal(tmp_path / "a2d", store)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips of ../shared are not here")
@pytest.mark.parametrize("pictures", [True, False])
def test_real_clips_give_the_same_in_both_layouts(acga: Acga, tmp_path: Path, pictures: bool) -> None:
    converted(REAL, tmp_path / "data", pictures=pictures)
    own = config(tmp_path, "real_a2d", tmp_path / "data")
    scores = []
    for name, of in (("a2d", "real_a2d"), ("own", own)):
        root = ("--set", f"dataset.root={REAL}") if name == "a2d" else ()
        done = acga("run", of, "--store", tmp_path / name, "--json", *root, timeout=600)
        assert done.code == 0, done.errors
        scores.append(done.document["metrics"])
    assert scores[0] == scores[1]
    assert_equal(tmp_path / "a2d", tmp_path / "own")


def without_labels(data: Path) -> None:
    """Leave only the three columns that must be there."""
    table = (data / "sentences.csv").read_text().splitlines()
    (data / "sentences.csv").write_text("".join(",".join(line.split(",")[:3]) + "\n" for line in table))


def test_from_init_to_the_report_without_labels_and_splits(acga: Acga, distinct: Path, tmp_path: Path) -> None:
    data, store, own = tmp_path / "data", tmp_path / "store", tmp_path / "own.toml"
    converted(distinct, data)
    without_labels(data)
    assert acga("init", own, "--from", "folder", "--data", data).code == 0
    text = own.read_text()
    assert f'root = "{data}"' in text and "size = 64 " in text and "# 12 videos" in text
    keys = ("visual.width=0.125", "pretrain.epochs=1", "training.epochs=1", "metrics.resamples=50")
    small = [part for key in (*keys, "dataset.test_share=0.4") for part in ("--set", key)]
    done = acga("run", own, "--store", store, "--json", *small, timeout=600)
    assert done.code == 0, done.errors
    assert "have no actor and action, and are only told from the background" in done.errors
    assert Path(done.document["report"]).is_file()
    videos = [{sample["clip"].split("/")[0] for sample in found} for found in by_role(store).values()]
    assert len(set.union(*videos)) == sum(map(len, videos)) == 12 and min(map(len, videos)) >= 2
    lines = (data / "sentences.csv").read_text().splitlines()
    (data / "sentences.csv").write_text("\n".join([*lines[:-1], f"{lines[-1]} indeed"]) + "\n")
    again = acga("run", own, "--store", store, "--json", *small, timeout=600)
    assert again.code == 0, again.errors
    executed = again.document["executed"]
    assert executed["TextFeatures"] == executed["Samples"] == 1
    assert not {"Frames", "Masks", "VisualFeatures", "PretrainedTrunk"} & executed.keys()


def by_role(store: Path) -> dict[str, list[dict]]:
    found = {}
    for path in store.glob("Samples/*/manifest.json"):
        manifest = json.loads(path.read_text())
        document = json.loads((path.parent / manifest["attempt"] / "samples.json").read_text())
        found[manifest["label"]] = document["samples"]
    return found


def test_check_and_run_name_all_that_is_wrong(acga: Acga, distinct: Path, tmp_path: Path) -> None:
    data, store = tmp_path / "data", tmp_path / "store"
    converted(distinct, data)
    own, table = config(tmp_path, "tiny", data), data / "sentences.csv"
    lines = table.read_text().splitlines()
    video, split = lines[1].split(",")[0], lines[1].split(",")[3]
    long = " ".join(["word"] * 30)
    lines += [f"{video},9,nobody,{split},,,", f"{video},1,{long},{split},,,"]
    table.write_text("\n".join(lines) + "\n")
    done = acga("check", own, "--store", store)
    assert done.code == 1
    here, count = "error: sentences.csv, line", len(lines)
    assert [line for line in done.output.splitlines() if line.startswith("error: ")] == [
        f"{here} {count - 1}: instance 9 of {video} is in none of its masks; correct the number",
        f"{here} {count}: 30 words; text.words = 20 reads the first: shorten it or raise that",
    ]
    table.write_text("\n".join([*lines, "nowhere,1,x,train,,,", "nowhere,0,x,train,,,"]) + "\n")
    for command, code, prefix in (("check", 1, "error: "), ("run", 2, "acga: ")):
        done = acga(command, own, "--store", store)
        assert done.code == code
        said = [line for line in (done.output + done.errors).splitlines() if line.startswith(prefix)]
        places = [line.rpartition("sentences.csv, ")[2].split(":")[0] for line in said]
        assert places == [f"line {count + 2}", f"line {count + 1}"]
    assert not list(store.glob("*/*/manifest.json"))
