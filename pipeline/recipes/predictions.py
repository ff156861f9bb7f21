"""Predictions: the masks of both protocols for every test sample.

predictions.json   for each sample: masks "acga" and "coco" as COCO run lengths, and the confidence of the latter
"""

from __future__ import annotations

import json
from typing import Any

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
    model = load(job.folder("TrainedModel") / "model.safetensors").to(device)
    model.mode = job.sections["model"]["mode"]
    samples = StoredSamples.of(job.inputs)
    frames: dict[str, Any] = {}
    for folder in job.inputs["Masks"]:
        frames |= json.loads((folder / "truth.json").read_bytes())["clips"]
    predictions = []
    size = job.sections["prediction"]["batch"]
    for start in range(0, len(samples), size):
        indices = range(start, min(start + size, len(samples)))
        batch = samples.batch(indices)
        responses = predict(model, batch.features, batch.words, batch.clip)
        for index, response in zip(indices, responses.large, strict=True):
            sample = samples.samples[index]
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
