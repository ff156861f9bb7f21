"""The ledger of a run: where each frame of each clip comes from, held against PyAV used directly."""

import hashlib
import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from commands import Acga, Run

from extractors.shards.shard import ShardReader


def artifacts(store: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The folder and the ledger of each Frames artifact."""
    folders = [path.parent for path in store.glob("Frames/*/attempt-*/ledger.json")]
    assert folders
    return [(folder, json.loads((folder / "ledger.json").read_bytes())) for folder in folders]


def decoded(store: Path, video: str) -> list[tuple[float, np.ndarray]]:
    """Time and picture of every frame of a video of the miniature."""
    (path,) = store.glob(f"miniature/*/Release/clips320H/{video}.mp4")
    with av.open(str(path)) as container:
        return [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_each_frame_of_a_clip_is_the_one_that_the_ledger_names(finished: Run) -> None:
    for folder, ledger in artifacts(finished.store):
        stored = ShardReader(folder / "frames.h5")
        assert list(stored.ids) == list(ledger["clips"])
        for row, (clip, entry) in enumerate(ledger["clips"].items()):
            video, _, number = clip.rpartition("/")
            frames = decoded(finished.store, video)
            start = int(number) - 1 - 8
            wanted = [min(max(index, 0), len(frames) - 1) for index in range(start, start + 16)]
            assert entry["indices"] == wanted
            assert entry["padding"] == [max(0, -start), max(0, start + 16 - len(frames))]
            np.testing.assert_allclose(entry["seconds"], [frames[index][0] for index in wanted], atol=1e-6)
            for place, index in enumerate(wanted):
                picture = frames[index][1]
                name = f"{picture.shape[0]}x{picture.shape[1]}x3".encode() + picture.tobytes()
                assert entry["pixels"][place] == hashlib.sha256(name).hexdigest()[:16]
            resized = cv2.resize(frames[wanted[8]][1], (64, 64), interpolation=cv2.INTER_LINEAR)
            assert (stored.read("frames", row)[8] == resized).all()  # square videos: no padding


@pytest.mark.slow
def test_a_share_of_the_videos_is_decoded_twice_and_the_content_stays(
    acga: Acga, finished: Run, tmp_path: Path
) -> None:
    contents = {}
    for share in ("0.0", "0.5", "all"):
        store = tmp_path / share
        acga.run(store, "--until", "Frames", "--set", f"frames.verify={share}")
        found = artifacts(store)
        checked = [entry["verified"] for _, ledger in found for entry in ledger["videos"].values()]
        assert len(checked) == 12
        assert {"0.0": not any(checked), "0.5": 0 < sum(checked) < 12, "all": all(checked)}[share]
        contents[share] = sorted((folder / "frames.h5").read_bytes() for folder, _ in found)
    assert contents["0.0"] == contents["0.5"] == contents["all"]
