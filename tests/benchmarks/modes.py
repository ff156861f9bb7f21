"""Whether the network's default mode learns what its plain one does: the demo with both, over several seeds.

    python tests/benchmarks/modes.py [--seeds 3] [--config configs/miniature.toml] [--store STORE] [--json]

Clips, features and word vectors are computed once; training, prediction and metrics six times. What differs between
the modes is rounding, which training amplifies: their scores should lie as far apart as those of two seeds.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

MODES = ("plain", "fast")
PROTOCOL = "acga_several"


def main() -> None:
    """Run, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--config", type=Path, default=Path("configs/miniature.toml"), help="default: the demo's")
    parser.add_argument("--store", type=Path, default=Path("store"), help="where artifacts lie (default ./store)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    scores: dict[str, list[float]] = {mode: [] for mode in MODES}
    for seed in range(arguments.seeds):
        for mode in MODES:
            scores[mode].append(mean_iou(arguments.config, arguments.store, mode, seed))
            sys.stderr.write(f"seed {seed}, {mode}: {scores[mode][-1]:.4f}\n")
    sys.stdout.write(json.dumps(scores) + "\n" if arguments.json else table(scores))


def mean_iou(config: Path, store: Path, mode: str, seed: int) -> float:
    """Return the mean IoU of a run over the clips with several actors."""
    changes = [f"model.mode={mode}", f"model.seed={seed}", f"training.seed={seed}"]
    command = [sys.executable, "-m", "pipeline.cli", "run", str(config), "--store", str(store), "--until", "Metrics"]
    for change in changes:
        command += ["--set", change]
    ran = subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE)
    return float(json.loads(ran.stdout)["metrics"][PROTOCOL]["mean_iou"])


def table(scores: dict[str, list[float]]) -> str:
    """Return the scores as a table in Markdown."""
    lines = [f"| mean IoU, {PROTOCOL} | {' | '.join(MODES)} | difference |", "|---|---|---|---|"]
    pairs = list(zip(*(scores[mode] for mode in MODES), strict=True))
    lines += [f"| seed {seed} | {a:.4f} | {b:.4f} | {b - a:+.4f} |" for seed, (a, b) in enumerate(pairs)]
    means = [statistics.mean(scores[mode]) for mode in MODES]
    lines.append(f"| mean | {means[0]:.4f} | {means[1]:.4f} | {means[1] - means[0]:+.4f} |")
    if len(pairs) > 1:
        spreads = [statistics.stdev(scores[mode]) for mode in MODES]
        lines.append(f"| standard deviation over seeds | {spreads[0]:.4f} | {spreads[1]:.4f} | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
