"""`acga segment`: a video of the test set gets the masks that a run predicts; any other video gets masks, too."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import videos
from commands import Acga, Run

from data.masks import decode_rle


def segment(acga: Acga, store: Path, video: Path, to: Path, *arguments: object) -> dict[str, Any]:
    done = acga("segment", video, "--config", acga.config, "--store", store, "--to", to, "--json", *arguments)
    assert done.code == 0, done.errors
    return done.document


def published(folders: list[str], name: str, label: str) -> Any:
    """A JSON file of the artifact of a label."""
    for folder in map(Path, folders):
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if manifest["label"] == label:
            return json.loads((folder / manifest["attempt"] / name).read_bytes())
    raise AssertionError(label)


def raw_video(store: Path, name: str) -> Path:
    (path,) = (store / "miniature").rglob(f"{name}.mp4")
    return path


LEARNT = ("--set", "training.lr=0.01")  # at which two epochs give masks that are neither empty nor everything
BOTH = (*LEARNT, "--set", "visual.modality=both", "--set", "prediction.fusion=[2.0, 1.0]")
RESNET = (*LEARNT, "--set", "visual.backbone=resnet18", "--set", "visual.width=1.0")


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        pytest.param(LEARNT, False, id="RGB"),
        pytest.param(LEARNT, True, id="a file of weights"),
        pytest.param(BOTH, False, id="RGB and flow", marks=pytest.mark.slow),
        pytest.param(RESNET, False, id="ResNet", marks=pytest.mark.slow),
    ],
)
def test_a_test_video_gets_the_masks_that_a_run_predicts(
    acga: Acga, store: Path, tmp_path: Path, settings: tuple[str, ...], given: bool
) -> None:
    artifacts = acga.run(store, "--until", "Predictions", *settings)["artifacts"]
    samples = published(artifacts["Samples"], "samples.json", "test")["samples"]
    predicted = published(artifacts["Predictions"], "predictions.json", "")["samples"]
    video = samples[0]["clip"].rpartition("/")[0]
    wanted = [sample for sample in samples if sample["clip"].startswith(f"{video}/")]
    queries = list(dict.fromkeys(sample["text"] for sample in wanted))
    arguments = [*settings, *(part for query in queries for part in ("--query", query))]
    arguments += [part for sample in wanted for part in ("--frame", int(sample["clip"].rpartition("/")[2]))]
    if given:
        (model,) = Path(artifacts["TrainedModel"][0]).glob("attempt-*/model.safetensors")
        arguments += ["--model", model]
    found = segment(acga, store, raw_video(store, video), tmp_path / "masks", *arguments)
    masks = {(entry["frame"], entry["query"]): entry for entry in found["masks"]}
    of_sample = {each["id"]: each for each in predicted}
    for sample in wanted:
        own, expected = masks[int(sample["clip"].rpartition("/")[2]), sample["text"]], of_sample[sample["id"]]
        assert (own["coco"], own["acga"]) == (expected["coco"], expected["acga"])
        assert own["confidence"] == pytest.approx(expected["confidence"], abs=1e-6)
    seen = [decode_rle(entry["acga"]).mean() for entry in found["masks"]]
    assert any(0 < share < 1 for share in seen), "masks that tell something"


def mine(folder: Path, frames: int) -> Path:
    """A video of 80 x 120."""
    return videos.encode(folder / "mine.mp4", count=frames, size=(80, 120))


def test_every_frame_of_any_video_for_any_sentences(acga: Acga, store: Path, tmp_path: Path) -> None:
    path = mine(tmp_path, 40)
    to = tmp_path / "deep" / "masks"
    queries = ("--query", "a dog on the left", "--query", "Café?")
    found = segment(acga, store, path, to, *queries, "--every", 2)
    assert [entry["frame"] for entry in found["masks"]] == [frame for frame in range(1, 41, 2) for _ in range(2)]
    assert json.loads((to / "masks.json").read_bytes()) == {key: found[key] for key in found if key != "to"}
    for entry in found["masks"]:
        picture = cv2.imread(str(to / entry["file"]), cv2.IMREAD_GRAYSCALE)
        assert picture.shape == (80, 120)
        assert np.array_equal(picture, decode_rle(entry["coco"]) * 255)
    overview = cv2.imread(str(to / "overview.png"))
    assert overview.shape == (2 * 26 + 5 * (18 + 160), 4 * 240, 3)
    assert not list(to.parent.glob("*.part"))


def test_frames_do_not_depend_on_which_others_are_asked_for(acga: Acga, store: Path, tmp_path: Path) -> None:
    path = mine(tmp_path, 40)
    many = segment(acga, store, path, tmp_path / "many", "--query", "a cat", "--every", 1)
    few = segment(acga, store, path, tmp_path / "few", "--query", "a cat", "--frame", 33, "--frame", 5)
    of_many = {entry["frame"]: entry["coco"] for entry in many["masks"]}
    assert {entry["frame"]: entry["coco"] for entry in few["masks"]} == {5: of_many[5], 33: of_many[33]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{video}", "--query", "!!"), "has no words"),
        (("{video}", "--query", "a dog", "--frame", "99"), "has the frames 1 to 12"),
        (("nowhere.mp4", "--query", "a dog"), "no video nowhere.mp4"),
        (("README.md", "--query", "a dog"), "README.md"),
        (("{video}", "--query", "a dog", "--model", "README.md"), "README.md"),
        (
            ("{video}", "--query", "a dog", "--set", "training.lr=0.1"),
            "run `acga run CONFIG --until TrainedModel` first",
        ),
        (("{video}", "--query", "a dog", "--to", "docs"), "exists; give a folder that does not"),
        (("{video}", "--query", "a dog", "--to", "README.md/masks"), "README.md: File exists; give another path"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_left(
    acga: Acga, finished: Run, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    video = mine(tmp_path, 12)
    given = [argument.format(video=video) for argument in arguments]
    to = tmp_path / "masks"
    done = acga("segment", "--to", to, "--config", acga.config, "--store", finished.store, *given)
    assert done.code == 2, done.errors
    assert words in done.errors.splitlines()[-1] and "Traceback" not in done.errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.mp4"]


@pytest.mark.parametrize(
    "command", [("segment", "README.md", "--query", "a dog", "--to", "to", "--config"), ("compare",)]
)
def test_an_empty_store_is_known_at_once(acga: Acga, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = acga(*command, acga.config, "--store", tmp_path / "store")
    assert done.code == 2
    assert "first" in done.errors.splitlines()[-1] and "`acga run" in done.errors
    assert not (tmp_path / "store").exists(), "nothing was drawn or listed"
