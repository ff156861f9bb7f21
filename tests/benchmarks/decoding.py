"""Decoding with ledger and child process against bare sequential decord, on clips of A2D's size and on real ones."""

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import av
import decord
import numpy as np
from measured import machine, paired

from extractors.video.decoder import Decoder, clip_indices

PAIRS = 7
REAL = Path(__file__).resolve().parents[3] / "shared" / "real"
COUNT, HEIGHT, WIDTH = 136, 320, 568  # A2D's mean length and commonest size


def main() -> None:
    print(f"decoding, {machine()}, medians of {PAIRS} pairs, wall seconds")
    with tempfile.TemporaryDirectory() as folder, Decoder() as decoder:
        clip = Path(folder) / "clip.mp4"
        encode(clip)
        sets = {f"H.264, {WIDTH} x {HEIGHT}, {COUNT} frames": [clip] * 4}
        if REAL.is_dir():
            sets["real A2D layout"] = sorted((REAL / "a2d").rglob("*.mp4"))
            sets["real J-HMDB layout"] = sorted((REAL / "jhmdb").rglob("*.avi"))[:12]
        for name, paths in sets.items():
            counts = [decoder.clips(path, (), 60.0).count for path in paths]
            ours, bare = paired(partial(with_ledger, decoder, paths, counts), partial(sequential, paths, counts), PAIRS)
            print(f"{name:36} {len(paths):3} files  ours {ours:6.3f}  bare decord {bare:6.3f}  ratio {bare / ours:.2f}")


def with_ledger(decoder: Decoder, paths: Sequence[Path], counts: Sequence[int]) -> None:
    """As the Frames stage does it: the clips around three labelled frames, by A2D's rule."""
    for path, count in zip(paths, counts, strict=True):
        labelled = [count // 6 * part for part in (1, 2, 3)]
        wanted = sorted({index for number in labelled for index in clip_indices(number - 1, 16, count)})
        decoder.clips(path, wanted, 60.0)


def sequential(paths: Sequence[Path], counts: Sequence[int]) -> None:
    """All frames of each video, one by one."""
    for path, count in zip(paths, counts, strict=True):
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        for _ in range(count):
            reader.next().asnumpy()


def encode(path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (HEIGHT // 8, (WIDTH + 2 * COUNT) // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(COUNT):
            picture = np.ascontiguousarray(scene[:HEIGHT, 2 * index : 2 * index + WIDTH])
            noise = rng.integers(0, 12, picture.shape, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture // 2 + noise, format="rgb24")))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    sys.exit(main())
