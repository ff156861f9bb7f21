"""Artifacts: published whole or not at all, the first writer wins."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.store.artifact import Artifact, ContentMismatch, DamagedManifest

KEY = "0123456789abcdef" * 4


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    made = Artifact(tmp_path, "Stage", KEY)
    made.folder.mkdir(parents=True)
    return made


def attempt(artifact: Artifact, text: str) -> tuple[Path, dict[str, dict[str, object]]]:
    """An attempt of one file whose content hash is its text."""
    folder = artifact.begin()
    (folder / "data.txt").write_text(text)
    return folder, {"data.txt": {"bytes": len(text), "sha256": "", "content": text}}


def publish(artifact: Artifact, text: str) -> None:
    artifact.publish(*attempt(artifact, text), {"label": "x"})


def test_nothing_is_there_before_it_is_published(artifact: Artifact) -> None:
    folder, files = attempt(artifact, "one")
    assert artifact.content() is None
    assert not artifact.complete()
    artifact.publish(folder, files, {})
    assert artifact.complete()
    assert (artifact.files() / "data.txt").read_text() == "one"


def test_the_second_writer_of_equal_content_leaves_the_first_in_place(artifact: Artifact) -> None:
    publish(artifact, "one")
    first = artifact.files()
    publish(artifact, "one")
    assert artifact.files() == first
    assert [path.name for path in artifact.folder.glob("attempt-*")] == [first.name]


def test_the_second_writer_of_other_content_fails_and_changes_nothing(artifact: Artifact) -> None:
    publish(artifact, "one")
    with pytest.raises(ContentMismatch, match="not deterministic"):
        publish(artifact, "two")
    assert (artifact.files() / "data.txt").read_text() == "one"


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_an_artifact_whose_file_is_gone_or_short_is_not_complete_and_can_be_built_again(
    artifact: Artifact, damage: str
) -> None:
    publish(artifact, "one")
    file = artifact.files() / "data.txt"
    file.unlink() if damage == "gone" else file.write_text("o")
    assert not artifact.complete()
    assert artifact.content() is not None
    publish(artifact, "one")
    assert artifact.complete()


def test_any_flipped_byte_of_a_manifest_is_seen(artifact: Artifact) -> None:
    publish(artifact, "one")
    path = artifact.folder / "manifest.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedManifest, match=r"manifest\.json"):
            artifact.recorded()
        assert artifact.manifest() is None
        assert not artifact.complete()


def test_a_manifest_of_another_key_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    publish(artifact, "one")
    with pytest.raises(DamagedManifest):
        Artifact(tmp_path, "Stage", KEY[:16] + "f" * 48).recorded()


def test_a_damaged_manifest_is_replaced_by_the_next_publication(artifact: Artifact) -> None:
    publish(artifact, "one")
    (artifact.folder / "manifest.json").write_bytes(b"{")
    publish(artifact, "one")
    assert artifact.content() is not None and artifact.complete()


def test_evicted_files_are_gone_but_what_they_held_is_known(artifact: Artifact) -> None:
    publish(artifact, "one")
    content = artifact.content()
    artifact.evict()
    assert artifact.evicted and not artifact.complete()
    assert artifact.content() == content
    with pytest.raises(ContentMismatch):
        publish(artifact, "two")
    publish(artifact, "one")
    assert artifact.complete() and not artifact.evicted
    assert len(list(artifact.folder.glob("attempt-*"))) == 1, "the empty one is gone"


def test_what_is_read_is_not_free_and_what_is_deleted_leaves_nothing(artifact: Artifact) -> None:
    publish(artifact, "one")
    with artifact.reading(), artifact.reading(), artifact.unused() as unused:
        assert not unused
    with artifact.unused() as unused:
        assert unused
        artifact.delete()
    assert not artifact.folder.exists()
    with artifact.lock():
        assert artifact.manifest() is None


def test_a_lock_whose_file_was_deleted_meanwhile_is_taken_anew(artifact: Artifact) -> None:
    with artifact.unused() as unused:
        assert unused
        artifact.delete()
        with artifact.lock(), artifact.unused() as again:
            assert not again, "the new file is what counts"


HOLD = f"""
import signal, sys
from pathlib import Path
from pipeline.store.artifact import Artifact
with Artifact(Path(sys.argv[1]), "Stage", "{KEY}").lock():
    print("held", flush=True)
    signal.pause()
"""


def test_the_lock_of_a_killed_holder_is_free_at_once(artifact: Artifact, tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert f"process {holder.pid} " in (artifact.folder / "lock").read_text()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with artifact.lock():
        assert f"process {os.getpid()} " in (artifact.folder / "lock").read_text()


def test_the_manifest_is_plain_json_with_what_was_given(artifact: Artifact) -> None:
    publish(artifact, "one")
    manifest = json.loads((artifact.folder / "manifest.json").read_text())
    assert (manifest["stage"], manifest["key"], manifest["label"]) == ("Stage", KEY, "x")


def test_an_attempt_is_abandoned_unless_it_was_published(artifact: Artifact) -> None:
    publish(artifact, "one")
    other, _ = attempt(artifact, "half")
    for folder in (other, artifact.files()):
        artifact.abandon(folder)
    assert (artifact.files() / "data.txt").read_text() == "one" and not other.exists()
