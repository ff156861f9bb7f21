"""Which samples come when: pure functions of (seed, epoch, step), the same on every machine and NumPy version."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar, get_args

import numpy as np

Sampling = Literal["epoch", "reference", "clips"]
T = TypeVar("T")
W = TypeVar("W")


class UnknownSampling(ValueError):
    """A way to draw samples that does not exist."""


class TooFewSamples(ValueError):
    """A source that cannot fill one batch."""


class TooFewVideos(ValueError):
    """Videos that cannot be divided into those to train on and those to validate on."""


def batches(
    sampling: str, clips: Sequence[Sequence[int]], batch: int, seed: int, epoch: int
) -> tuple[tuple[int, ...], ...]:
    """Return the sample positions of every step of an epoch; `clips` lists the positions of each clip's samples.

    epoch: a permutation, each sample once, the last batch perhaps smaller.
    reference: as in the authors' loop a fresh random batch each step, so that about 63 % of the samples come by.
    clips: clips in random order, each with all its sentences, taken until a batch has at least `batch` samples.
    Raises UnknownSampling and TooFewSamples.
    """
    if sampling not in get_args(Sampling):
        raise UnknownSampling(f"Sampling {sampling!r}: expected one of {', '.join(get_args(Sampling))}.")
    samples = sorted(position for clip in clips for position in clip)
    if len(samples) < (batch if sampling == "reference" else 1):
        raise TooFewSamples(
            f"Training source of {len(samples)} samples, expected {batch} or more. Lower the batch size or add videos."
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
    """Return batches of whole clips, in their order, each closed as soon as it has `batch` samples or more."""
    closed: list[tuple[int, ...]] = []
    current: list[int] = []
    for clip in clips:
        current += clip
        if len(current) >= batch:
            closed.append(tuple(current))
            current = []
    return (*closed, tuple(current)) if current else tuple(closed)


def shuffled(count: int, *key: int) -> tuple[int, ...]:
    """Return the numbers below `count` in an order that the key alone decides.

    Raw words of a bit generator, sorted: NumPy promises their values for ever, unlike those of `Generator.permutation`.
    """
    words = np.random.PCG64(np.random.SeedSequence(list(key))).random_raw(count)
    return tuple(np.argsort(words, kind="stable").tolist())


def split(indices: Sequence[int], clip: Sequence[int], parts: int) -> tuple[tuple[int, ...], ...]:
    """Return so many parts of a batch, each in the batch's order; `clip` is the clip of every sample of the source.

    The samples of a clip stay together, since a clip counts once in batch statistics. The largest clips go first, each
    to the part that has the fewest samples. Where there are fewer clips than parts some are empty.
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
    """Return the videos to validate on: about this share of the different ones, those whose hashes come first.

    None for a share of 0, else one or more. Raises TooFewVideos where none would be left to train on.
    """
    if share == 0:
        return frozenset()
    ordered = sorted(set(videos), key=lambda video: hashlib.sha256(f"{seed}:{video}".encode()).digest())
    count = max(1, round(share * len(ordered)))
    if count >= len(ordered):
        raise TooFewVideos(
            f"Training source of {len(ordered)} videos, {count} of them held out, expected one left to train on. "
            "Lower [training] validation or add videos."
        )
    return frozenset(ordered[:count])


def prefetched(load: Callable[[W], T], wanted: Sequence[W]) -> Iterator[T]:
    """Yield what `load` gives for each of the wanted, in order, the next one loading in a thread meanwhile."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        following = None
        for one in wanted:
            current, following = following, pool.submit(load, one)
            if current is not None:
                yield current.result()
        if following is not None:
            yield following.result()
