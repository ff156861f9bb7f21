"""Functions that find the first difference between two artifacts of the same task: the file, row and array."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.wording import counted
from pipeline.store.artifact import Artifact, StoreError


def first_difference(a: Artifact, b: Artifact) -> str:
    """Describe the first difference between two artifacts; for arrays this includes the largest absolute difference.

    Raises `StoreError` if one of them is not published.
    """
    old, new = a.manifest(), b.manifest()
    if old is None or new is None:
        raise StoreError(f"{a.folder if old is None else b.folder} holds no published artifact")
    contents = [{name: file["content"] for name, file in each["files"].items()} for each in (old, new)]
    names = sorted({*contents[0], *contents[1]})
    differing = [name for name in names if contents[0].get(name) != contents[1].get(name)]
    return of_files(a.files(), b.files(), differing)[0] if differing else "no difference"


def of_files(a: Path, b: Path, differing: Sequence[str]) -> tuple[str, float | None]:
    """Describe the first difference between the files of two folders, given the names of those that differ.

    Also return the largest difference of the first differing shard, relative to the largest absolute value of its
    array and row, or None if the difference is not numerical.
    """
    for name in differing:
        if not (a / name).exists() or not (b / name).exists():
            return f"{name} is only in the {'new' if (b / name).exists() else 'old'} one", None
    shards = [name for name in differing if name.endswith(".h5")]
    if shards:
        words, largest = _of_shards(a / shards[0], b / shards[0])
        return f"{shards[0]}, {words}", largest
    return f"{differing[0]}, {_of_bytes(a / differing[0], b / differing[0])}", None


def _of_shards(a: Path, b: Path) -> tuple[str, float | None]:
    import numpy as np  # imported here so that the parent process loads h5py and numpy only if something differs

    from extractors.shards.shard import ShardReader

    old, new = ShardReader(a), ShardReader(b)
    if old.ids != new.ids:
        return "its rows are others", None
    if old.names != new.names:
        return f"its arrays are {', '.join(new.names)} instead of {', '.join(old.names)}", None
    first, largest = "", 0.0
    for row, id in enumerate(old.ids):
        for name in old.names:
            before, after = old.read(name, row), new.read(name, row)
            if before.dtype != after.dtype or before.shape != after.shape:
                return f"row {id}: {name} is {after.dtype} {after.shape}, not {before.dtype} {before.shape}", None
            if before.tobytes() == after.tobytes():
                continue
            apart = np.abs(before.astype(np.float64) - after.astype(np.float64)).max()
            largest = max(largest, float(apart / max(np.abs(before.astype(np.float64)).max(), 1e-30)))
            count = int((before != after).sum())
            first = (
                first
                or f"row {id}: {name} differs in {count} of {counted(before.size, 'value')}, by at most {apart:.3g}"
            )
    return (first, largest) if first else ("its attributes are others", None)


def _of_bytes(a: Path, b: Path) -> str:
    old, new = a.read_bytes(), b.read_bytes()
    place = next((place for place, (x, y) in enumerate(zip(old, new, strict=False)) if x != y), min(len(old), len(new)))
    return f"from byte {place} of {len(old)}"
