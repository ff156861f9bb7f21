"""The network runs where there is PyTorch: without the libraries that read videos, keep shards and schedule stages."""

import subprocess
import sys

from commands import PROJECT

MODULES = sorted(
    ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    for path in (PROJECT / "models").rglob("*.py")
    if path.stem != "__init__"
)
NOT_NEEDED = ("decord", "av", "luigi", "h5py", "hdf5plugin", "zstandard", "pydantic", "beartype", "transformers")


def test_models_import_no_video_library_no_store_no_scheduler_and_start_no_gpu() -> None:
    assert "models.training.loop" in MODULES
    program = (
        f"import sys, {', '.join(MODULES)}, torch; "
        f"print([name for name in {NOT_NEEDED} if name in sys.modules], torch.cuda.is_initialized())"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[] False"
