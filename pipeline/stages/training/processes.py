"""Training in several processes, each of which computes its share of every batch.

`train_together` starts them by

    python -m torch.distributed.run ... -m pipeline.stages.training.processes JOB.json

On GPUs, each process uses its own GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from models.training.distributed import process_group, rank
from models.training.loop import EpochLoss
from pipeline.stages.support.compute import prepare
from pipeline.stages.support.orphans import end_with_parent
from pipeline.stages.support.units import Units
from pipeline.stages.training.network import Settings, TrainingJob, train_here

PATIENCE_SECONDS = 1800.0  # maximal wait for another process, which may be reading from a slow disk
RESULT = "result.json"


class ProcessesFailed(RuntimeError):
    """Error of a training in which one of several processes failed."""


def train_together(job: TrainingJob, processes: int) -> tuple[EpochLoss, ...]:
    """Train in several processes on this machine and return the losses of all epochs. Raises `ProcessesFailed`."""
    job.resume.mkdir(exist_ok=True)
    description = job.resume / "job.json"
    description.write_text(json.dumps(document(job)), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*launcher, "-m", "pipeline.stages.training.processes", str(description)]
    # In a session of its own a signal to the command's processes does not reach it: torchrun would report each.
    ended = subprocess.run(command, check=False, preexec_fn=end_with_parent, start_new_session=True)
    if ended.returncode:
        raise ProcessesFailed(
            f"one of {processes} training processes failed (exit code {ended.returncode}); what it said is above. Run"
            " again: training goes on after its last checkpoint"
        )
    result = json.loads((job.resume / RESULT).read_bytes())
    job.notes.update(result["notes"])
    return tuple(EpochLoss(**loss) for loss in result["losses"])


def document(job: TrainingJob) -> dict[str, object]:
    """Return the job as a JSON document."""
    return {
        "settings": job.settings.model_dump(),
        "records": job.records,
        "files": job.files,
        "inputs": {name: [str(folder) for folder in folders] for name, folders in job.inputs.items()},
        "folders": {name: str(getattr(job, name)) for name in ("out", "resume", "cache", "logs")},
    }


def main(path: Path) -> None:
    """Train as one of the processes that torchrun started."""
    end_with_parent()
    described = json.loads(path.read_bytes())
    job = TrainingJob(
        settings=Settings.model_validate(described["settings"]),
        records=described["records"],
        files=described["files"],
        inputs={name: tuple(map(Path, folders)) for name, folders in described["inputs"].items()},
        out=Path(described["folders"]["out"]),
        resume=Path(described["folders"]["resume"]),
        cache=Path(described["folders"]["cache"]),
        logs=Path(described["folders"]["logs"]),
        units=Units({}),
        progress=report,
    )
    device = own_device(prepare(job.settings.compute))
    with process_group(device, PATIENCE_SECONDS):
        losses = train_here(job, device)
        if rank() == 0:
            result = {"losses": [asdict(loss) for loss in losses], "notes": job.notes}
            (job.resume / RESULT).write_text(json.dumps(result), encoding="utf-8")


def own_device(device: torch.device) -> torch.device:
    """Return the device of this process, which is its own GPU if the device is a GPU."""
    if device.type != "cuda":
        return device
    own = torch.device("cuda", int(torch.distributed.get_node_local_rank()))
    torch.cuda.set_device(own)
    return own


def report(done: int, total: int) -> None:
    """Print the progress of training, ten times in all."""
    if done * 10 // total > (done - 1) * 10 // total:
        sys.stderr.write(f"TrainedModel: {done} of {total}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
