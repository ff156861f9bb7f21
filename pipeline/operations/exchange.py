"""Export and import of features in the folder layout of the authors' code (`extractors.authors.reader`).

Besides the authors' files, an export contains `acga.json` with the config, the clip of each row and the source videos.
The authors' loader ignores this file; `acga diff` uses it to find the raw videos.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import graph
from pipeline.config import Config, ConfigError, load
from pipeline.engine.stage import Stage
from pipeline.runs import building, run
from pipeline.store.canonical_json import canonical, digest

if TYPE_CHECKING:
    from extractors.authors.writer import ReferenceRow
    from extractors.shards.samples import StoredSamples

ORIGIN = "acga.json"


@dataclass(frozen=True)
class Exported:
    """The result of an export: the samples by split, the rows that this call wrote, and the bytes of a row."""

    samples: dict[str, int]
    written: int
    bytes_per_row: int


def export(config: Config, store: Path, to: Path, workers: int, progress: Callable[[int, int], None]) -> Exported:
    """Write the samples of a config and build missing artifacts first; an interrupted export can be continued.

    Raises `ConfigError` if the config has two streams, `StageFailed`, and the errors of `ReferenceWriter`.
    """
    if len(config.streams) > 1:
        raise ConfigError("visual.modality = 'both': a folder holds one stream; export with --set visual.modality=rgb")
    (stream,) = config.streams
    (anchor,) = run.prepare(config, store, "Predictions")
    tasks = {role: graph.of_role(anchor, role, graph.REFERRED, [stream]) for role in anchor.raw["sets"]}
    roots = [task for of_role in tasks.values() for task in of_role]
    run.execute(roots, run.ready(config, roots), workers, None, time.monotonic())

    from extractors.authors.reader import ReferenceSample  # imported here because they load torch and h5py
    from extractors.authors.writer import ReferenceLayout, ReferenceWriter
    from extractors.shards.samples import StoredSamples

    sources = {role: StoredSamples.of(inputs(of_role), stream) for role, of_role in tasks.items()}
    frames = {role: _frames(of_role) for role, of_role in tasks.items()}
    listed = {
        role: [
            ReferenceSample(sample["id"], frames[role][sample["clip"]]["height"], frames[role][sample["clip"]]["width"])
            for sample in source.samples
        ]
        for role, source in sources.items()
    }
    first = next(iter(sources.values()))
    channels, depth, height, width = first.features_shape
    one = first.batch([0])
    words, mask = (int(one.words.shape[1]), int(one.words.shape[2])), int(one.large.shape[-1])
    layout = ReferenceLayout((channels, depth, height, width), words, mask)
    content = digest({role: [task.content() for task in of_role] for role, of_role in tasks.items()})
    writer = ReferenceWriter(to, stream, listed, layout, content)
    written = writer.write(lambda role, row: _row(sources[role], row), progress)
    clips = {role: [sample["clip"] for sample in source.samples] for role, source in sources.items()}
    (to / ORIGIN).write_bytes(canonical(origin(anchor) | {"rows": clips}))
    return Exported({role: len(samples) for role, samples in listed.items()}, written, writer.bytes_per_row)


def load_folder(folder: Path, store: Path, config: Path, overrides: Sequence[str], workers: int) -> run.Outcome:
    """Import the samples of all splits of a folder into the store; the config gives the role of each split.

    Raises `ConfigError` if the folder or the config does not have the authors' layout, and `StageFailed`.
    """
    found = [split for split in ("train", "test") if (folder / f"{split}.txt").is_file()]
    if not found:
        raise ConfigError(f"{folder}: neither train.txt nor test.txt; give a folder in the layout of the authors' code")
    settings = load(
        config, [*overrides, f"dataset.root={folder}", "visual.weights=seeded"]
    )  # weights do not matter yet
    kinds = {settings.datasets[section.dataset].kind for section in settings.sets.values()}
    if kinds != {"reference"}:
        raise ConfigError(f"config {config}: its data sets are {sorted(kinds)}; expected dataset.kind = 'reference'")
    absent = {role: None for role, section in settings.sets.items() if section.split not in found}
    return run.run(settings.model_copy(update=absent), store, "Imported", workers, None)


def origin(task: Stage) -> dict[str, Any]:
    """Return the origin of a task's features: config sections, raw files, videos and the pretrained trunk's folder."""
    trunks = [below.artifact() for below in building.all_tasks([task]) if below.stage == "PretrainedTrunk"]
    folders = [str(trunk.files().resolve()) for trunk in trunks if trunk is not None]
    return described(task.values, task.raw) | {"trunk": folders[0] if folders else None}


def described(sections: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config sections that determine features, the raw files and the videos."""
    kept = ("compute", "flow", "frames", "visual")
    sets = {role: {"kind": entry["kind"], "videos": entry["videos"]} for role, entry in raw["sets"].items()}
    of_files = {name: file for name, file in raw["files"].items() if name.partition(".")[0] in ("model", "visual")}
    return {"sections": {name: sections[name] for name in kept if name in sections}, "files": of_files, "sets": sets}


def inputs(tasks: list[Stage]) -> dict[str, list[Path]]:
    """Return the folders of finished tasks by input name, as they are passed to stages."""
    found: dict[str, list[Path]] = {}
    for task in tasks:
        artifact = task.artifact()
        if artifact is None:
            raise building.StageFailed(f"{task.stage} {task.label}: not there after it was built; run again")
        for name in task.provides:
            found.setdefault(name, []).append(artifact.files())
    return found


def _frames(tasks: list[Stage]) -> dict[str, Any]:
    frames: dict[str, Any] = {}
    for folder in inputs(tasks)["Masks"]:
        frames |= json.loads((folder / "truth.json").read_bytes())["clips"]
    return frames


def _row(source: StoredSamples, row: int) -> ReferenceRow:
    from extractors.authors.writer import ReferenceRow

    batch = source.batch([row])
    return ReferenceRow(
        features=batch.features[0].float().numpy(),
        words=batch.words[0].numpy(),
        large=batch.large[0].numpy(),
        medium=batch.medium[0].numpy(),
        small=batch.small[0].numpy(),
    )
