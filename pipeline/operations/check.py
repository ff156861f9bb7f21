"""Check of a data set: everything that a run would read is opened before any expensive work starts."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from data import datasets, published
from data.readers.rvos import reader as rvos
from data.readers.sentence_table import BadFolder
from data.records import Listing, Query, Video
from data.wording import counted
from pipeline import interrupts
from pipeline.config import Config
from pipeline.engine import catalogue
from pipeline.engine.progress import Progress
from pipeline.graph import STAGES
from pipeline.runs import preflight
from pipeline.stages.support.orphans import end_with_run
from pipeline.store import slots

if TYPE_CHECKING:
    from extractors.video.decoder import Decoder


@dataclass(frozen=True)
class Task:
    """A video to examine, with the sentences that speak of it."""

    kind: str
    video: Video
    queries: tuple[Query, ...]
    words: int  # of a sentence that are read
    length: int
    limit_seconds: float  # time limit of decoding; 0: the video is not decoded


@dataclass(frozen=True)
class Examined:
    """The result for one video: its number of samples, its errors, and the rules that applied to it."""

    samples: int
    errors: tuple[str, ...]
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """The result for a config: what was recognised, and the errors; `rules` counts the records that each applied to."""

    videos: int
    samples: int
    errors: tuple[str, ...]
    rules: dict[str, int]
    said: tuple[str, ...]


def check(config: Config, roots: dict[str, Path], fast: bool, workers: int) -> Findings:
    """Read every annotation and, unless `fast`, decode every video as the Frames stage does; collect all errors.

    `roots` gives the folder of each data set by its name. The files that the config names, the device and the memory of
    a batch are checked as before a run.
    """
    looked = preflight.look(config, frozenset(stage.__name__ for stage in STAGES), _troubles(config))
    errors = list(looked.errors)
    rules: Counter[str] = Counter()
    videos = samples = 0
    for name, section in config.datasets.items():
        if name not in roots:
            continue
        listings: dict[str, Listing] = {}
        counted: dict[str, int] = {}
        for split in sorted({role.split for role in config.sets.values() if role.dataset == name}):
            try:
                listings[split] = catalogue.listing(section, roots[name], split)
            except BadFolder as error:  # the splits of a folder share its problems
                errors += [finding for finding in error.findings if finding not in errors]
                continue
            except (OSError, ValueError) as error:
                errors.append(f"{name}, {split}: {error}")
                continue
            tasks = list(_tasks(section.kind, listings[split], config, fast))
            found = list(_examined(tasks, workers, f"{name} {split}"))
            errors += [message for examined in found for message in examined.errors]
            rules.update({rule: len(records) for rule, records in listings[split].hits.items()})
            rules.update(rule for examined in found for rule in examined.rules)
            counted[split] = sum(examined.samples for examined in found)
            videos, samples = videos + len(tasks), samples + counted[split]
        if section.expect == "published" and listings:
            errors += published.check(section.kind, published.count(section.kind, roots[name], listings, counted))
    return Findings(videos, samples, tuple(dict.fromkeys(errors)), dict(sorted(rules.items())), looked.said)


def _troubles(config: Config) -> list[str]:
    """Return the error of a device that this machine does not have."""
    try:
        slots.find("auto", config.compute.device, config.compute.threads)
    except slots.ImpossibleDevices as error:
        return [str(error)]
    return []


def last_frame(kind: str, video: Video) -> int:
    """Return the last frame of a video that may be used (0: no limit).

    The frames of J-HMDB after the last mask are not part of the data set.
    """
    return video.frames if kind == "jhmdb" else 0


def _tasks(kind: str, listing: Listing, config: Config, fast: bool) -> Iterator[Task]:
    spoken_of: dict[str, list[Query]] = {}
    for query in listing.queries:
        spoken_of.setdefault(query.video, []).append(query)
    limit, words = 0.0 if fast else config.frames.limit_seconds, config.text.words
    for video in listing.videos:
        yield Task(kind, video, tuple(spoken_of.get(video.id, ())), words, config.frames.length, limit)


def _examined(tasks: Sequence[Task], workers: int, name: str) -> Iterator[Examined]:
    """Yield the result of each video in order; `workers` processes examine videos in parallel."""
    interrupts.start_forkserver()
    context, count = multiprocessing.get_context("forkserver"), max(1, min(workers, len(tasks)))
    with ProcessPoolExecutor(count, context, initializer=end_with_run) as pool, Progress(name) as progress:
        for done, examined in enumerate(pool.map(_examine, tasks, chunksize=4), start=1):
            progress.update(done, len(tasks))
            yield examined


def _examine(task: Task) -> Examined:
    errors: list[str] = []
    rules: list[str] = []
    met: set[Query] = set()
    samples = 0
    video = task.video
    for frame in video.labelled:
        try:
            found = datasets.read_instances(
                task.kind, Path(frame.path), frame.number, video.height, video.width, video.unions
            )
        except (OSError, ValueError) as error:
            errors.append(str(error))
            continue
        asked = [query for query in task.queries if query.frames is None or frame.number in query.frames]
        shown = [query for query in asked if query.instance in found.ids]
        rules += [*found.hits, *["absent_instance"] * (len(asked) - len(shown))]
        samples += len(shown)
        met.update(shown)
        if task.kind == "folder" and not found.masks.any():
            errors.append(f"{frame.path}: no instance in frame {frame.number}; remove the file, or draw what it shows")
    if task.kind == "folder":
        errors += [message for query in task.queries for message in _misfits(query, query in met, task.words)]
    if task.kind == "rvos" and not errors:
        errors += _strangers(video, [query for query in task.queries if query not in met])
    if task.limit_seconds:
        refusal, of_video = _decoded(task)
        errors += [refusal] if refusal else []
        rules += of_video
    return Examined(samples, tuple(errors), tuple(rules))


def _misfits(query: Query, met: bool, words: int) -> Iterator[str]:
    """Yield what is wrong with a sentence of a data set of one's own, in which nothing should be left out silently."""
    from extractors.text.sentences import tokens

    where = f"sentences.csv, line {query.row}"
    if not met:
        yield f"{where}: instance {query.instance} of {query.video} is in none of its masks; correct the number"
    if (count := len(tokens(query.text))) > words:
        yield f"{where}: {counted(count, 'word')}; text.words = {words} reads the first: shorten it or raise that"


def _strangers(video: Video, absent: Sequence[Query]) -> Iterator[str]:
    """Yield the sentences, among those without a labelled frame, whose object no mask of the video shows."""
    path = Path(video.labelled[0].path)
    for instance in sorted({query.instance for query in absent}):
        numbers = ", ".join(str(query.ordinal) for query in absent if query.instance == instance)
        try:
            if not rvos.appears(path, instance, video.unions):
                yield f"{video.id}: the object of expression {numbers} is in none of its masks; correct its obj_id"
        except (OSError, ValueError) as error:
            yield str(error)


def _decoded(task: Task) -> tuple[str, tuple[str, ...]]:
    """Decode a video's clips; return the error message ("" if there is none) and the rules that applied."""
    from extractors.video.clips import Source, decode
    from extractors.video.decoder import DecoderDied, DecodingTimedOut
    from extractors.video.quarantine import DETERMINISTIC, rules_of

    video = task.video
    numbers = tuple(frame.number for frame in video.labelled)
    last = last_frame(task.kind, video)
    source = Source(video.id, Path(video.path), video.height, video.width, video.frames, last, numbers)
    try:
        clips = decode(_decoder(), source, task.length, task.limit_seconds, verify=False)
    except DETERMINISTIC as error:
        return str(error), rules_of(error)
    except (DecodingTimedOut, DecoderDied, OSError) as error:
        return str(error), ()
    return "", clips.rules


@cache
def _decoder() -> Decoder:
    """Return the decoder of this process, which is reused for all videos.

    Its child process ends when this process closes its end of the pipe.
    """
    from extractors.video.decoder import Decoder

    return Decoder()
