"""Where two artifacts of the same task part: the first file, video, row and array."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifact import Artifact, StoreError


def first_difference(a: Artifact, b: Artifact) -> str:
    """In words; the largest difference where it is one of numbers."""
    old, new = a.manifest(), b.manifest()
    if old is None or new is None:
        raise StoreError(f"{a.folder if old is None else b.folder} holds no published artifact")
    for name in sorted({*old["files"], *new["files"]}):
        if name not in old["files"] or name not in new["files"]:
            return f"{name} is only in the {'new' if name in new['files'] else 'old'} one"
    differing = [
        name for name in sorted(old["files"]) if old["files"][name]["content"] != new["files"][name]["content"]
    ]
    if not differing:
        return "no difference"
    shards = [name for name in differing if name.endswith(".h5")]
    if shards:
        return f"{shards[0]}, {_of_shards(a.files() / shards[0], b.files() / shards[0])}"
    return f"{differing[0]}, {_of_bytes(a.files() / differing[0], b.files() / differing[0])}"


def _of_shards(a: Path, b: Path) -> str:
    import numpy as np  # here, since h5py and numpy stay out of the parent until something differs

    from extractors.shards import ShardReader

    old, new = ShardReader(a), ShardReader(b)
    if old.ids != new.ids:
        return "its rows are others"
    if old.names != new.names:
        return f"its arrays are {', '.join(new.names)} instead of {', '.join(old.names)}"
    for row, id in enumerate(old.ids):
        for name in old.names:
            before, after = old.read(name, row), new.read(name, row)
            if before.dtype != after.dtype or before.shape != after.shape:
                return f"row {id}: {name} is {after.dtype} {after.shape} instead of {before.dtype} {before.shape}"
            if before.tobytes() != after.tobytes():
                apart = np.abs(before.astype(np.float64) - after.astype(np.float64))
                count = int((before != after).sum())
                return f"row {id}: {name} differs in {count} of {before.size} values, by at most {apart.max():.3g}"
    return "its attributes are others"


def _of_bytes(a: Path, b: Path) -> str:
    old, new = a.read_bytes(), b.read_bytes()
    place = next((place for place, (x, y) in enumerate(zip(old, new, strict=False)) if x != y), min(len(old), len(new)))
    return f"from byte {place} of {len(old)}"
