"""Looking words up in word2vec files of two sizes: memory of the process and seconds, first and then by the index.

Writes files of GoogleNews' dimension with random vectors into a temporary folder, 1 GB at most, and deletes them. With
--json, one document instead of the table."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measured import machine

DIM = 300
ENTRIES = {"0.3 GB": 250_000, "1 GB": 830_000}
BLOCK = 10_000  # entries
SENTENCES = 2000
LIMIT_MB = 300


def main() -> None:
    if sys.argv[1:2] == ["lookup"]:
        print(json.dumps(lookup(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))))
        return
    rows = {name: measure(count) for name, count in ENTRIES.items()}
    if "--json" in sys.argv:
        print(json.dumps({"machine": machine(), "lookups": rows}))
        return
    print(f"word2vec lookups of {SENTENCES} sentences, {machine()}; asked: under {LIMIT_MB} MB, equal for both files")
    print("file    lookup        seconds   peak MB   of which grown")
    for name, found in rows.items():
        for kind, one in found.items():
            print(f"{name:8}{kind:12}{one['seconds']:9.2f}{one['peak_mb']:10.1f}{one['grown_mb']:17.1f}")


def measure(count: int) -> dict[str, dict[str, float]]:
    """The pass without an index, the pass that writes it, and the lookup of other words by it; a process each."""
    with tempfile.TemporaryDirectory() as folder:
        path, index = Path(folder) / "vectors.bin", Path(folder) / "vectors.index"
        write(path, count)
        kinds = {"no index": (Path("-"), 0), "first": (index, 0), "by index": (index, count // 2)}
        return {kind: child(path, kept, count, start) for kind, (kept, start) in kinds.items()}


def child(path: Path, index: Path, count: int, start: int) -> dict[str, float]:
    command = [sys.executable, __file__, "lookup", str(path), str(index), str(count), str(start)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def lookup(path: Path, index: Path, count: int, start: int) -> dict[str, Any]:
    """Seconds and memory of looking up sentences of five words, one of them absent, spread over the file."""
    from extractors.text.sentences import word_vectors

    places = [(start + number * 997) % count for number in range(4 * SENTENCES)]
    sentences = [" ".join([f"w{place}" for place in places[at::SENTENCES]] + ["absent"]) for at in range(SENTENCES)]
    before, started = peak_mb(), time.monotonic()
    kept = None if str(index) == "-" else index
    found = word_vectors(sentences, str(path), DIM, 20, 0, "zero", index=kept)
    seconds = time.monotonic() - started
    if found.occurrences != {"absent": SENTENCES} or not np.allclose(found.values[0, 0, 0], places[0]):
        sys.exit(f"wrong vectors from {path}")
    return {"seconds": seconds, "peak_mb": peak_mb(), "grown_mb": peak_mb() - before}


def peak_mb() -> float:
    """Peak of the resident memory of this process, in MB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def write(path: Path, count: int) -> None:
    """Entries w0, w1, ...; the first value of each is its number."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(f"{count} {DIM}\n".encode())
        for first in range(0, count, BLOCK):
            vectors = rng.standard_normal((min(BLOCK, count - first), DIM), np.float32)
            vectors[:, 0] = np.arange(first, first + len(vectors))
            file.write(b"".join(f"w{first + row} ".encode() + vector.tobytes() for row, vector in enumerate(vectors)))


if __name__ == "__main__":
    sys.exit(main())
