"""The trunk that [visual] names."""

from __future__ import annotations

from pathlib import Path

from models.i3d import I3D
from models.initialisation import seed_i3d
from models.weights import load_i3d, load_trunk, load_video
from pipeline.recipes.job import Job

EPS = {"reference": 1e-5, "tensorflow": 1e-3}


def seeded_trunk(job: Job) -> I3D:
    """An I3D with calibrated random weights, a function of seed, width and eps alone."""
    visual = job.sections["visual"]
    i3d = I3D("rgb", EPS[visual["batch_norm"]], visual["width"])
    seed_i3d(i3d, visual["seed"])
    return i3d


def trunk(job: Job) -> I3D:
    """The frozen trunk, from where visual.weights says."""
    visual, files = job.sections["visual"], job.members["files"]
    if visual["weights"] == "seeded":
        return seeded_trunk(job)
    if visual["weights"] == "pretrain":
        return load_trunk(job.folder("PretrainedTrunk") / "trunk.safetensors")
    eps = EPS[visual["batch_norm"]]
    if visual["weights"] == "checkpoint":
        return load_video(Path(files["model.checkpoint"]["path"]), eps)
    return load_i3d(Path(files["visual.weights"]["path"]), eps)
