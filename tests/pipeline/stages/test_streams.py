"""Streams by config alone: optical flow, RGB and flow together, a ResNet."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Acga, Run
from stores import SINGLE

from data.masks import decode_rle
from extractors.shards.samples import StoredSamples
from extractors.shards.shard import ShardReader
from extractors.video.flow import flow_fields
from models.evaluation.inference import predict
from models.files.checkpoints import load

SHARDS = ("test/000", "test/001", "train/000", "train/001")
NEAR = 1e-5  # of a threshold: the last bits of a probability depend on the number of threads


@dataclass(frozen=True)
class Streams:
    """A store in which flow alone, then RGB and flow together ran after a network for RGB was trained."""

    store: Path
    flow: dict[str, Any]
    both: dict[str, Any]


LEARNT = ("--set", "training.lr=0.01")  # at which two epochs give masks that are neither empty nor everything


@pytest.fixture(scope="module")
def streams(acga: Acga, finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Streams:
    store = Path(shutil.copytree(finished.store, tmp_path_factory.mktemp("streams") / "store"))
    acga.run(store, *LEARNT, "--until", "TrainedModel")
    flow = acga.run(store, *LEARNT, "--set", "visual.modality=flow")
    both = acga.run(store, *LEARNT, "--set", "visual.modality=both", "--set", "prediction.fusion=[2.0, 1.0]")
    return Streams(store, flow, both)


def files_of(folder: Path) -> Path:
    """The files of an artifact."""
    return folder / json.loads((folder / "manifest.json").read_bytes())["attempt"]


def labelled(folders: list[str]) -> dict[str, Path]:
    """The files of artifacts by their labels."""
    manifests = {folder: json.loads((Path(folder) / "manifest.json").read_bytes()) for folder in folders}
    return {manifest["label"]: Path(folder) / manifest["attempt"] for folder, manifest in manifests.items()}


def read_by(folder: Path) -> dict[str, list[Path]]:
    """The files of an artifact's inputs by stage, with the stream where there is one, in the order they were given."""
    found: dict[str, list[Path]] = {}
    for stage, label, key in json.loads((folder / "manifest.json").read_bytes())["from"]:
        stream = label.rpartition(" ")[2]
        name = f"{stage}.{stream}" if stream in ("rgb", "flow") else stage
        found.setdefault(name, []).append(files_of(folder.parents[1] / stage / key[:16]))
    return found


@pytest.mark.slow
def test_flow_alone_runs_and_decodes_no_video_again(streams: Streams) -> None:
    assert streams.flow["executed"] == {"Flow": 4, "VisualFeatures": 4} | SINGLE
    assert streams.flow["reused"] == {"Frames": 4, "Masks": 4, "Samples": 2, "TextFeatures": 2}
    assert labelled(streams.flow["artifacts"]["VisualFeatures"]).keys() == {f"{shard} flow" for shard in SHARDS}
    assert "flow network trained for 2 epochs" in Path(streams.flow["report"]).read_text()


def test_the_network_for_flow_sees_two_channels(streams: Streams) -> None:
    (trained,) = streams.flow["artifacts"]["TrainedModel"]
    video = load(files_of(Path(trained)) / "model.safetensors").video
    assert video.modality == "flow"
    assert video.state_dict()["conv3d_1a_7x7.conv3d.weight"].shape[1] == 2


def test_the_stored_fields_are_the_flow_of_the_stored_frames_to_the_frame_after_them(streams: Streams) -> None:
    frames, fields = (labelled(streams.flow["artifacts"][stage]) for stage in ("Frames", "Flow"))
    for shard in SHARDS:
        source, flow = ShardReader(frames[shard] / "frames.h5"), ShardReader(fields[shard] / "flow.h5")
        assert flow.ids == source.ids
        assert flow.dtype("fields") == np.float16
        for row in range(len(source)):
            ended = bool(source.read("ended", row))
            following = None if ended else source.read("following", row)
            expected = flow_fields(source.read("frames", row), following, "dis", 20.0).astype(np.float16)
            np.testing.assert_array_equal(flow.read("fields", row), expected)
            assert np.abs(expected).max() <= 1


@pytest.mark.slow
def test_rgb_and_flow_together_predict_anew_with_the_networks_that_are_there(streams: Streams) -> None:
    assert streams.both["executed"] == {"Predictions": 1, "Metrics": 1, "Report": 1}
    reused = {"Frames": 4, "Flow": 4, "Masks": 4, "TextFeatures": 2, "Samples": 2}
    assert streams.both["reused"] == reused | {"VisualFeatures": 8, "TrainedModel": 2}
    page = Path(streams.both["report"]).read_text()
    assert "rgb network trained" in page and "flow network trained" in page


@pytest.mark.slow
def test_the_fused_masks_are_those_of_the_weighted_mean_of_both_responses(streams: Streams) -> None:
    (folder,) = map(Path, streams.both["artifacts"]["Predictions"])
    predictions = json.loads((files_of(folder) / "predictions.json").read_bytes())["samples"]
    inputs = read_by(folder)
    responses = {}
    for stream in ("rgb", "flow"):
        (trained,) = inputs[f"TrainedModel.{stream}"]
        samples, model = StoredSamples.of(inputs, stream), load(trained / "model.safetensors")
        batches = [samples.batch(range(start, min(start + 4, len(samples)))) for start in range(0, len(samples), 4)]
        large = [predict(model, batch.features, batch.words, batch.clip).large for batch in batches]
        responses[stream] = torch.cat(large).double().numpy()
        assert [prediction["id"] for prediction in predictions] == [sample["id"] for sample in samples.samples]
    assert not np.allclose(responses["rgb"], responses["flow"], atol=0.1), "the two do not see the same"
    fused = 1 / (1 + np.exp(-(2 * responses["rgb"] + responses["flow"]) / 3))
    either = [1 / (1 + np.exp(-responses[stream])) for stream in ("rgb", "flow")]
    whole, of_one = halves(fused), [halves(probability) for probability in either]
    assert 0 < whole.mean() < 1 and all((whole != one).any() for one in of_one), "or the masks would tell nothing"
    for prediction, probability in zip(predictions, fused, strict=True):
        for protocol, threshold in (("acga", probability.max() / 2), ("coco", 0.5)):
            found, sure = decode_rle(prediction[protocol]) == 1, np.abs(probability - threshold) > NEAR
            np.testing.assert_array_equal(found[sure], probability[sure] > threshold)
        inside = probability > 0.5
        confidence = probability[inside].mean() if inside.any() else 0.0
        assert prediction["confidence"] == pytest.approx(confidence, abs=1e-3)


@pytest.mark.slow
def test_a_resnet_trains_on_the_same_frames_by_config_alone(acga: Acga, streams: Streams) -> None:
    resnet = ("visual.backbone=resnet18", "visual.width=1.0", "training.epochs=1", "visual.frames=2")
    document = acga.run(streams.store, *LEARNT, *(part for override in resnet for part in ("--set", override)))
    assert document["executed"] == {"VisualFeatures": 4} | SINGLE
    assert document["metrics"]["acga"]["samples"] == 20
    files = labelled(document["artifacts"]["VisualFeatures"])["test/000 rgb"]
    assert ShardReader(files / "visual.h5").shape("features") == (256, 2, 4, 4), "two frames, a sixteenth of 64 pixels"
    (trained,) = document["artifacts"]["TrainedModel"]
    assert load(files_of(Path(trained)) / "model.safetensors").video.modality == "rgb"


def halves(probabilities: np.ndarray) -> np.ndarray:
    """What exceeds half of each map's own maximum."""
    return probabilities > probabilities.max(axis=(1, 2), keepdims=True) / 2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("visual.backbone=resnet18", "visual.modality=flow", "visual.width=1.0"), ("visual.backbone", "'resnet18'")),
        (("visual.backbone=resnet18",), ("visual.width",)),
        (("visual.backbone=resnet18", "visual.width=1.0", "visual.frames=17"), ("visual.frames", "frames.length")),
        (("visual.modality=both",), ("prediction.fusion", "1 weight,", "2 networks predict")),
        (("prediction.fusion=[2.0, 1.0]",), ("prediction.fusion", "2 weights,", "1 network predicts")),
        (("visual.modality=flow", "visual.weights=pretrain"), ("visual.weights", "pretrain")),
        (("visual.modality=flow", "visual.flow_weights=pretrain"), ("visual.flow_weights", "only RGB")),
        (("training.flip=true",), ("training.flip", "text.mirrored")),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_does_not_go_together_is_refused_in_one_line(
    acga: Acga, tmp_path: Path, overrides: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = acga("run", acga.config, "--store", tmp_path / "store", *(p for one in overrides for p in ("--set", one)))
    assert (done.code, done.output) == (2, "")
    (complaint,) = done.errors.splitlines()
    assert complaint.startswith("acga: ")
    assert all(word in complaint for word in words), complaint
    assert not (tmp_path / "store").exists()
