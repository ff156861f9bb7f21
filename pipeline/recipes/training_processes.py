"""Training in several processes, each on its share of every batch.

    python -m torch.distributed.run ... -m pipeline.recipes.training_processes JOB.json

is how `train_together` starts them; on GPUs each process takes its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from models.distributed import process_group, rank
from models.training import EpochLoss
from pipeline.recipes.compute import prepare
from pipeline.recipes.job import Job
from pipeline.recipes.network import train_here
from pipeline.recipes.orphans import end_with_parent
from pipeline.recipes.units import Units

PATIENCE_SECONDS = 1800.0  # for another process, which may read a slow disk
LOSSES = "losses.json"


class ProcessesFailed(RuntimeError):
    """Training in several processes did not come to its end."""


def train_together(job: Job, processes: int) -> tuple[EpochLoss, ...]:
    """Train in so many processes on this machine; the losses of all epochs. Raises ProcessesFailed."""
    job.resume.mkdir(exist_ok=True)
    description = job.resume / "job.json"
    description.write_text(json.dumps(document(job)), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*launcher, "-m", "pipeline.recipes.training_processes", str(description)]
    ended = subprocess.run(command, check=False, preexec_fn=end_with_parent)
    if ended.returncode:
        raise ProcessesFailed(
            f"one of {processes} training processes failed (exit code {ended.returncode}); what it said is above. Run"
            " again: training goes on after its last checkpoint"
        )
    losses = json.loads((job.resume / LOSSES).read_bytes())
    return tuple(EpochLoss(**loss) for loss in losses)


def document(job: Job) -> dict[str, object]:
    """The job as JSON."""
    return {
        "sections": job.sections,
        "members": job.members,
        "inputs": {name: [str(folder) for folder in folders] for name, folders in job.inputs.items()},
        "folders": {name: str(getattr(job, name)) for name in ("out", "resume", "cache", "logs")},
    }


def main(path: Path) -> None:
    """Train as one of the processes that torchrun started."""
    end_with_parent()
    described = json.loads(path.read_bytes())
    job = Job(
        sections=described["sections"],
        members=described["members"],
        inputs={name: tuple(map(Path, folders)) for name, folders in described["inputs"].items()},
        out=Path(described["folders"]["out"]),
        resume=Path(described["folders"]["resume"]),
        cache=Path(described["folders"]["cache"]),
        logs=Path(described["folders"]["logs"]),
        units=Units({}),
        progress=report,
    )
    device = own_device(prepare(job.sections["compute"]))
    with process_group(device, PATIENCE_SECONDS):
        losses = train_here(job, device)
        if rank() == 0:
            (job.resume / LOSSES).write_text(json.dumps([asdict(loss) for loss in losses]), encoding="utf-8")


def own_device(device: torch.device) -> torch.device:
    """The device of this process: on a machine with GPUs its own."""
    if device.type != "cuda":
        return device
    own = torch.device("cuda", int(torch.distributed.get_node_local_rank()))
    torch.cuda.set_device(own)
    return own


def report(done: int, total: int) -> None:
    """Say how far training is, ten times in all."""
    if done * 10 // total > (done - 1) * 10 // total:
        sys.stderr.write(f"TrainedModel: {done} of {total}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
