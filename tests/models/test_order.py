import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.order import TooFewSamples, UnknownSampling, batches, prefetched, shuffled, whole_clips

CLIPS = [[0, 1, 2], [3], [4, 5], [6], [7, 8]]


@st.composite
def clip_lists(draw):
    """Draw clips of one to four samples each, numbered from 0."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=12))
    starts = [sum(lengths[:place]) for place in range(len(lengths))]
    return [list(range(start, start + length)) for start, length in zip(starts, lengths, strict=True)]


def test_orders_are_fixed_for_ever():
    # PCG64's raw words are promised not to change with NumPy's version.
    assert shuffled(8, 2019, 0) == (0, 4, 2, 5, 1, 6, 7, 3)


def test_a_batch_of_whole_clips_closes_once_it_is_full():
    assert whole_clips(CLIPS, 3) == ((0, 1, 2), (3, 4, 5), (6, 7, 8))
    assert whole_clips(CLIPS, 4) == ((0, 1, 2, 3), (4, 5, 6, 7, 8))
    assert whole_clips(CLIPS, 100) == (tuple(range(9)),)


@given(clip_lists(), st.integers(1, 6), st.integers(0, 99), st.integers(0, 9))
def test_epochs_and_clips_bring_every_sample_once(clips, batch, seed, epoch):
    everything = sorted(position for clip in clips for position in clip)
    for sampling in ("epoch", "clips"):
        found = batches(sampling, clips, batch, seed, epoch)
        assert sorted(position for step in found for position in step) == everything
        assert found == batches(sampling, clips, batch, seed, epoch)
    assert all(len(step) == batch for step in batches("epoch", clips, batch, seed, epoch)[:-1])


@given(clip_lists(), st.integers(1, 6), st.integers(0, 99))
def test_clips_keep_their_sentences_together(clips, batch, seed):
    home = {position: place for place, step in enumerate(batches("clips", clips, batch, seed, 0)) for position in step}
    assert all(len({home[position] for position in clip}) == 1 for clip in clips)


def test_epochs_and_seeds_differ():
    orders = {batches("epoch", CLIPS, 4, seed, epoch) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_authors_sampling_sees_63_percent_of_the_samples_in_an_epoch():
    steps = batches("reference", [[position] for position in range(4000)], 4, seed=0, epoch=0)
    assert len(steps) == 1000
    assert all(len(set(step)) == 4 for step in steps)
    counts = Counter(position for step in steps for position in step)
    assert len(counts) / 4000 == pytest.approx(0.632, abs=0.02)


def test_the_authors_sampling_drops_the_remainder_and_needs_one_full_batch():
    assert len(batches("reference", CLIPS, 4, seed=0, epoch=0)) == 2
    with pytest.raises(TooFewSamples, match="9 samples, expected 10"):
        batches("reference", CLIPS, 10, seed=0, epoch=0)


def test_an_empty_source_is_refused():
    with pytest.raises(TooFewSamples, match="0 samples"):
        batches("epoch", [], 4, seed=0, epoch=0)


def test_an_unknown_sampling_is_refused():
    with pytest.raises(UnknownSampling, match=r"'sorted'.*reference"):
        batches("sorted", CLIPS, 4, seed=0, epoch=0)


def test_prefetching_keeps_the_order_and_works_one_ahead():
    loaded = []
    source = prefetched(lambda indices: loaded.append(tuple(indices)) or sum(indices), [[1, 2], [3], [4, 5]])
    assert next(source) == 3
    assert list(source) == [3, 9]
    assert loaded == [(1, 2), (3,), (4, 5)]
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_a_failure_while_loading_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(prefetched(lambda indices: 1 // indices[0], [[1], [0], [2]]))
