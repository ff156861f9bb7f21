"""Reading of a dataset by its kind. Only this module maps kinds to readers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from data.readers import a2d, folder, jhmdb
from data.readers.folder import Share
from data.readers.rvos import reader as rvos
from data.records import Instances, Listing

NO_SHARE = Share(test=0.0, seed=0)
NO_UNIONS: Mapping[int, Sequence[str]] = {}
KINDS = ("a2d", "jhmdb", "folder", "rvos")


def read(
    kind: str,
    root: Path,
    split: str,
    exclude: Mapping[str, str],
    labelled: str | Path = "even",
    share: Share = NO_SHARE,
) -> Listing:
    """Return the videos and sentences of one split of a dataset in the layout that its reader describes.

    `labelled` selects the labelled frames: of J-HMDB "even", or the path of a list; of rvos "even", "even:N" or
    "every:N". For the others it is ignored, since the annotation files determine the labelled frames. `share`
    is that of the test split of a folder whose table names no splits. Raises UnknownKind and the readers' errors."""
    if kind == "a2d":
        return a2d.read(root, split, exclude)
    if kind == "jhmdb":
        return jhmdb.read(root, split, exclude, labelled)
    if kind == "folder":
        return folder.read(root, split, exclude, share)
    if kind == "rvos":
        return rvos.read(root, split, exclude, str(labelled))
    raise UnknownKind(f"data set kind {kind!r}: expected one of {', '.join(KINDS)}.")


def read_instances(
    kind: str, path: Path, number: int, height: int, width: int, unions: Mapping[int, Sequence[str]] = NO_UNIONS
) -> Instances:
    """Read the instances of labelled frame `number`, counted from 1, from its annotation file.

    `unions` are those of its video. Raises UnknownKind and the errors of the readers."""
    if kind == "a2d":
        return a2d.read_instances(path, height, width)
    if kind == "jhmdb":
        return jhmdb.read_instances(path, number, height, width)
    if kind == "folder":
        return folder.read_instances(path, number, height, width)
    if kind == "rvos":
        return rvos.read_instances(path, number, height, width, unions)
    raise UnknownKind(f"data set kind {kind!r}: expected one of {', '.join(KINDS)}.")


class UnknownKind(ValueError):
    """Raised if no reader exists for a kind of dataset."""
