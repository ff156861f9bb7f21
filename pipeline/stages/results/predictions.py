"""The stage Predictions, which predicts the masks of both protocols for every test sample.

predictions.json   for each sample: the masks "acga" and "coco" as COCO run lengths, and the confidence of the latter
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from data.letterbox import Letterbox
from data.masks import encode_rle
from extractors.shards.samples import StoredSamples
from models.evaluation.inference import predict
from models.evaluation.metrics import acga_prediction, coco_prediction
from models.files.checkpoints import load
from pipeline.sections.compute import ComputeSection
from pipeline.sections.results.prediction import PredictionSection
from pipeline.sections.section import Section
from pipeline.sections.training.model import ModelMode
from pipeline.stages.support.compute import prepare
from pipeline.stages.support.job import Job
from pipeline.stages.support.predicted import Prediction, write_predictions
from pipeline.stages.support.truth import labelled_frames


class Settings(Section):
    """The sections that this stage reads."""

    compute: ComputeSection
    model: ModelMode
    prediction: PredictionSection


def build(job: Job[Settings, None]) -> None:
    """Predict in the order of the samples, in batches of `prediction.batch`, and write predictions.json."""
    device = prepare(job.settings.compute)
    networks = [Network(job, stream, device) for stream in ("rgb", "flow") if f"TrainedModel.{stream}" in job.inputs]
    samples = networks[0].samples.samples
    frames = labelled_frames(job.inputs["Masks"])
    predictions: list[Prediction] = []
    section = job.settings.prediction
    for start in range(0, len(samples), section.batch):
        indices = range(start, min(start + section.batch, len(samples)))
        for index, response in zip(indices, fused(networks, indices, section), strict=True):
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
    write_predictions(job.out, predictions)


class Network:
    """The network of a stream, and the test samples with the features of this stream."""

    def __init__(self, job: Job[Settings, None], stream: str, device: torch.device) -> None:
        self.model = load(job.folder(f"TrainedModel.{stream}") / "model.safetensors").to(device)
        self.model.mode = job.settings.model.mode
        self.samples = StoredSamples.of(job.inputs, stream)

    def responses(self, indices: Sequence[int], precision: str) -> Float[Tensor, "b s s"]:
        """Return the fused responses (logits) to some samples."""
        batch = self.samples.batch(indices)
        return predict(self.model, batch.features, batch.words, batch.clip, precision).large


class Responding(Protocol):
    """A network together with samples for which it can compute responses."""

    def responses(self, indices: Sequence[int], precision: str) -> Float[Tensor, "b s s"]:
        """Return the fused responses (logits) to some samples."""
        ...


def fused(networks: Sequence[Responding], indices: Sequence[int], section: PredictionSection) -> Float[Tensor, "b s s"]:
    """Return the weighted mean of the networks' responses, or the responses of the only network."""
    if len(networks) == 1:
        return networks[0].responses(indices, section.precision)
    weights = section.fusion
    each = [network.responses(indices, section.precision) * w for network, w in zip(networks, weights, strict=True)]
    return torch.stack(each).sum(0) / sum(weights)
