"""Predictions: the masks of both protocols for every test sample.

predictions.json   for each sample: masks "acga" and "coco" as COCO run lengths, and the confidence of the latter
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from data.letterbox import Letterbox
from data.masks import encode_rle
from extractors.samples import StoredSamples
from models.checkpoints import load
from models.inference import predict
from models.metrics import acga_prediction, coco_prediction
from pipeline.recipes.compute import prepare
from pipeline.recipes.job import Job


def build(job: Job) -> None:
    """Predict in the order of the samples, `prediction.batch` at a time."""
    device = prepare(job.sections["compute"])
    networks = [Network(job, stream, device) for stream in ("rgb", "flow") if f"TrainedModel.{stream}" in job.inputs]
    samples = networks[0].samples.samples
    frames: dict[str, Any] = {}
    for folder in job.inputs["Masks"]:
        frames |= json.loads((folder / "truth.json").read_bytes())["clips"]
    predictions = []
    size = job.sections["prediction"]["batch"]
    for start in range(0, len(samples), size):
        indices = range(start, min(start + size, len(samples)))
        for index, response in zip(indices, fused(networks, indices, job.sections["prediction"]), strict=True):
            sample = samples[index]
            frame = frames[sample["clip"]]
            box = Letterbox(frame["height"], frame["width"], response.shape[-1])
            mask, confidence = coco_prediction(response, box)
            predictions.append(
                {
                    "id": sample["id"],
                    "acga": encode_rle(acga_prediction(response, box)),
                    "coco": encode_rle(mask),
                    "confidence": confidence,
                }
            )
        job.progress(len(predictions), len(samples))
    (job.out / "predictions.json").write_text(json.dumps({"samples": predictions}, indent=1), encoding="utf-8")


class Network:
    """The network of a stream, and the test set as it sees it."""

    def __init__(self, job: Job, stream: str, device: torch.device) -> None:
        self.model = load(job.folder(f"TrainedModel.{stream}") / "model.safetensors").to(device)
        self.model.mode = job.sections["model"]["mode"]
        self.samples = StoredSamples.of(job.inputs, stream)

    def responses(self, indices: Sequence[int], precision: str) -> Float[Tensor, "b s s"]:
        """The fused responses (logits) to some samples."""
        batch = self.samples.batch(indices)
        return predict(self.model, batch.features, batch.words, batch.clip, precision).large


class Responding(Protocol):
    """A network and samples that it can look at."""

    def responses(self, indices: Sequence[int], precision: str) -> Float[Tensor, "b s s"]:
        """The fused responses (logits) to some samples."""
        ...


def fused(networks: Sequence[Responding], indices: Sequence[int], section: Mapping[str, Any]) -> Float[Tensor, "b s s"]:
    """The weighted mean of the networks' responses; of one network its own."""
    if len(networks) == 1:
        return networks[0].responses(indices, section["precision"])
    weights = section["fusion"]
    each = [network.responses(indices, section["precision"]) * w for network, w in zip(networks, weights, strict=True)]
    return torch.stack(each).sum(0) / sum(weights)
