"""The order of samples: pure functions of (seed, epoch, step), the same on every machine and NumPy version."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar, get_args

import numpy as np

from data.wording import counted

Sampling = Literal["epoch", "reference", "clips"]
T = TypeVar("T")
W = TypeVar("W")


class UnknownSampling(ValueError):
    """Error raised if the name of a sampling is unknown."""


class TooFewSamples(ValueError):
    """Error raised if a source has too few samples for one batch."""


class TooFewVideos(ValueError):
    """Error raised if holding out videos for validation would leave none to train on."""


def batches(
    sampling: str, clips: Sequence[Sequence[int]], batch: int, seed: int, epoch: int
) -> tuple[tuple[int, ...], ...]:
    """Return the sample positions of every step of an epoch; `clips` lists the positions of each clip's samples.

    epoch: a permutation, in which each sample occurs once; the last batch may be smaller.
    reference: a new random batch in each step, as in the authors' loop, so that about 63 % of the samples occur.
        A clip that is drawn twice, with two sentences, passes the trained head once: it counts once in the statistics
        of its batch norms, and twice in the authors' code (in one such step the losses lay 1.3e-4 apart, the running
        means 9e-3).
    clips: clips in random order, each with all its sentences; a batch is closed when it has `batch` samples or more.
    Raises UnknownSampling and TooFewSamples.
    """
    if sampling not in get_args(Sampling):
        raise UnknownSampling(f"Sampling {sampling!r}: expected one of {', '.join(get_args(Sampling))}.")
    samples = sorted(position for clip in clips for position in clip)
    if len(samples) < (batch if sampling == "reference" else 1):
        raise TooFewSamples(
            f"Training source of {counted(len(samples), 'sample')}, expected {batch} or more. Lower the"
            " batch size or add videos."
        )
    if sampling == "reference":
        steps = range(len(samples) // batch)
        draws = [shuffled(len(samples), seed, epoch, step)[:batch] for step in steps]
        return tuple(tuple(samples[place] for place in draw) for draw in draws)
    if sampling == "epoch":
        order = [samples[place] for place in shuffled(len(samples), seed, epoch)]
        return tuple(tuple(order[start : start + batch]) for start in range(0, len(order), batch))
    return whole_clips([clips[place] for place in shuffled(len(clips), seed, epoch)], batch)


def whole_clips(clips: Sequence[Sequence[int]], batch: int) -> tuple[tuple[int, ...], ...]:
    """Return batches of whole clips in their given order, each closed as soon as it has `batch` samples or more."""
    closed: list[tuple[int, ...]] = []
    current: list[int] = []
    for clip in clips:
        current += clip
        if len(current) >= batch:
            closed.append(tuple(current))
            current = []
    return (*closed, tuple(current)) if current else tuple(closed)


def shuffled(count: int, *key: int) -> tuple[int, ...]:
    """Return a permutation of range(count) that depends only on the key.

    It sorts the raw words of a bit generator, whose values NumPy guarantees never to change, unlike those of
    `Generator.permutation`.
    """
    words = np.random.PCG64(np.random.SeedSequence(list(key))).random_raw(count)
    return tuple(np.argsort(words, kind="stable").tolist())


def split(indices: Sequence[int], clip: Sequence[int], parts: int) -> tuple[tuple[int, ...], ...]:
    """Return a batch divided into `parts` parts, each in the batch's order; `clip` is the clip of every sample.

    The samples of a clip stay together, because a clip counts once in the batch statistics. Clips are assigned from the
    largest to the smallest, each to the part with the fewest samples. Some parts are empty if there are too few clips.
    """
    grouped: dict[int, list[int]] = {}
    for index in indices:
        grouped.setdefault(clip[index], []).append(index)
    shares: list[list[int]] = [[] for _ in range(parts)]
    for samples in sorted(grouped.values(), key=len, reverse=True):
        min(shares, key=len).extend(samples)
    place = {index: position for position, index in enumerate(indices)}
    return tuple(tuple(sorted(share, key=place.__getitem__)) for share in shares)


def held_out(videos: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """Return the videos held out for validation: about this share of the distinct videos, chosen by seeded hashes.

    The set is empty for a share of 0 and has at least one video otherwise. Raises TooFewVideos.
    """
    if share == 0:
        return frozenset()
    ordered = sorted(set(videos), key=lambda video: hashlib.sha256(f"{seed}:{video}".encode()).digest())
    count = max(1, round(share * len(ordered)))
    if count >= len(ordered):
        raise TooFewVideos(
            f"Training source of {counted(len(ordered), 'video')}, {count} of them held out, expected"
            " one left to train on. "
            "Lower [training] validation or add videos."
        )
    return frozenset(ordered[:count])


def prefetched(load: Callable[[W], T], wanted: Sequence[W]) -> Iterator[T]:
    """Yield `load(one)` for each element of `wanted`, in order, while a thread loads the next one."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        following = None
        for one in wanted:
            current, following = following, pool.submit(load, one)
            if current is not None:
                yield current.result()
        if following is not None:
            yield following.result()
