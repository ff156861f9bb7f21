"""Bit rot: a flipped byte anywhere in a store is noticed before it is used, and what it spoilt is made again."""

import os
import random
import time
from pathlib import Path

import pytest
from commands import Acga, Run
from stores import data_files, manifests

from pipeline.store.artifact import of


def flip(path: Path, place: int) -> None:
    """One bit of one byte, as a disk does it: size and times stay."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << place % 8
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip_somewhere(path: Path, generator: random.Random) -> None:
    flip(path, generator.randrange(path.stat().st_size))


def published(store: Path) -> list[Path]:
    """Every file of every artifact."""
    found = []
    for (stage, key), manifest in manifests(store).items():
        found += [store / stage / key[:16] / manifest["attempt"] / name for name in manifest["files"]]
    return sorted(path for path in found if path.stat().st_size)


def test_any_flipped_byte_of_any_published_file_is_seen(store: Path) -> None:
    generator = random.Random(0)
    for path in published(store):
        stage, key, *_ = path.relative_to(store).parts
        artifact = of(store / stage / key / "manifest.json")
        assert artifact is not None and artifact.damaged() == []
        size = path.stat().st_size
        for place in {0, size - 1, *(generator.randrange(size) for _ in range(6))}:
            flip(path, place)
            assert artifact.damaged() == [str(path.relative_to(artifact.files()))]
            flip(path, place)
        assert artifact.damaged() == []


def test_a_whole_store_is_verified_without_a_word(acga: Acga, store: Path) -> None:
    done = acga("run", acga.config, "--store", store, "--verify", "--json")
    assert done.document["executed"] == {}
    assert "damaged" not in done.errors


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["Frames", "Masks", "VisualFeatures", "TrainedModel", "Report"])
def test_a_damaged_file_is_named_and_built_again_whoever_needs_it(
    acga: Acga, finished: Run, store: Path, stage: str
) -> None:
    path = random.Random(stage).choice([path for path in published(store) if path.relative_to(store).parts[0] == stage])
    flip_somewhere(path, random.Random(1))
    done = acga("run", acga.config, "--store", store, "--verify", "--json")
    assert done.document["executed"] == {stage: 1}
    assert f"{path.name} is damaged" in done.errors
    assert data_files(store) == data_files(finished.store)


def test_a_flipped_byte_in_every_file_and_every_manifest_is_made_good(acga: Acga, finished: Run, store: Path) -> None:
    generator = random.Random(2)
    expected = {(manifest["stage"], manifest["content"]) for manifest in manifests(store).values()}
    for path in [*published(store), *store.glob("*/*/manifest.json")]:
        flip_somewhere(path, generator)
    done = acga("run", acga.config, "--store", store, "--verify", "--json")
    assert done.code == 0, done.errors
    assert {(manifest["stage"], manifest["content"]) for manifest in manifests(store).values()} == expected
    assert data_files(store) == data_files(finished.store)


def test_a_damaged_manifest_is_noticed_by_every_run(acga: Acga, finished: Run, store: Path) -> None:
    path = sorted((store / "TextFeatures").glob("*/manifest.json"))[0]
    flip_somewhere(path, random.Random(3))
    planned = acga("plan", acga.config, "--store", store, "--json").document["stages"]
    assert planned["TextFeatures"]["reasons"] == ["its manifest is damaged"]
    assert planned["TrainedModel"]["unless_equal"] <= 1
    done = acga("run", acga.config, "--store", store, "--json")
    assert done.document["executed"] == {"TextFeatures": 1}, "nothing else: it came out equal"
    assert "damaged" in done.errors or "was changed after it was written" in done.errors
    assert data_files(store) == data_files(finished.store)


def test_a_damaged_video_of_the_miniature_is_drawn_again(acga: Acga, finished: Run, store: Path) -> None:
    videos = sorted((store / "miniature").rglob("*.mp4"))
    flip_somewhere(videos[0], random.Random(4))
    done = acga("run", acga.config, "--store", store, "--json")
    assert done.document["executed"] == {}
    assert "drawn again" in done.errors
    assert videos[0].read_bytes() == next((finished.store / "miniature").rglob(videos[0].name)).read_bytes()


def test_a_raw_file_that_changed_behind_its_times_is_seen(acga: Acga, store: Path, miniature: Path) -> None:
    root = ("--set", f"dataset.root={miniature}", "--until", "Frames")
    video = sorted(miniature.rglob("*.mp4"))[0]
    grow_old()
    acga.run(store, *root)
    assert str(video).encode() in (store / "catalogue" / "hashes.json").read_bytes()
    flip(video, video.stat().st_size // 2)
    planned = acga("plan", acga.config, "--store", store, *root, "--json").document["stages"]
    assert planned["Frames"]["run"] == 1


def grow_old() -> None:
    """Hashes of files that changed within the last two seconds are not kept."""
    time.sleep(2.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hashes.json", "catalogue"])
def test_damaged_records_of_the_raw_files_are_written_anew(acga: Acga, finished: Run, store: Path, name: str) -> None:
    grow_old()
    (store / "catalogue" / "hashes.json").unlink(missing_ok=True)  # of the store that this is a copy of
    before = set((store / "catalogue").glob("*.json"))
    acga.run(store)
    if name == "hashes.json":
        path = store / "catalogue" / name
    else:  # the miniature's files lie elsewhere now
        (path,) = set((store / "catalogue").glob("*.json")) - before - {store / "catalogue" / "hashes.json"}
    whole = path.read_bytes()
    for place in random.Random(5).sample(range(len(whole)), 3):
        flip(path, place)
        assert acga.run(store)["executed"] == {}
        assert path.read_bytes() == whole
    assert data_files(store) == data_files(finished.store)
