"""Seconds, peak memory and throughput of every stage: one run of a config in a new store, read from its manifests."""

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path

from measured import acga, machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, nargs="?", default=Path("configs/tiny.toml"))
    config = parser.parse_args().config
    with tempfile.TemporaryDirectory() as folder:
        seconds, outcome = acga("run", config, "--store", folder, "--workers", 1, "--json")
        print(
            f"{config.stem}, one worker, {machine()}: {seconds:.1f} s in all, at most {outcome['peak_memory_mib']} MiB"
        )
        again, _ = acga("run", config, "--store", folder, "--workers", 1, "--json")
        print(f"the same once more: {again:.1f} s")
        print(f"{'stage':16} {'tasks':>5} {'seconds':>8} {'MiB/s out':>9} {'MiB out':>8} {'peak MiB':>8}")
        for stage, folders in outcome["artifacts"].items():
            total: dict[str, float] = defaultdict(float)
            for artifact in folders:
                cost = json.loads((Path(artifact) / "manifest.json").read_bytes())["cost"]
                total["seconds"] += cost["seconds"]
                total["bytes"] += cost["bytes"]
                total["peak"] = max(total["peak"], cost["peak_memory_mib"])
            size = total["bytes"] / 2**20
            rate = size / max(total["seconds"], 1e-3)
            print(f"{stage:16} {len(folders):5} {total['seconds']:8.1f} {rate:9.1f} {size:8.1f} {total['peak']:8.0f}")


if __name__ == "__main__":
    main()
