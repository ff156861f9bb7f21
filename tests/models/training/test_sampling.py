import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.training.sampling import (
    TooFewSamples,
    TooFewVideos,
    UnknownSampling,
    batches,
    held_out,
    prefetched,
    shuffled,
    split,
    whole_clips,
)

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


def test_a_batch_is_split_by_clips_the_largest_first():
    clip = [0, 0, 1, 1, 1, 2, 3]
    assert split((3, 0, 5, 2, 1, 6, 4), clip, 1) == ((3, 0, 5, 2, 1, 6, 4),)
    assert split((3, 0, 5, 2, 1, 6, 4), clip, 2) == ((3, 2, 6, 4), (0, 5, 1))
    assert split((3, 2), clip, 3) == ((3, 2), (), ())


@given(clip_lists(), st.integers(1, 5), st.randoms(use_true_random=False))
def test_a_split_keeps_every_sample_and_divides_no_clip(clips, parts, random):
    clip = [place for place, samples in enumerate(clips) for _ in samples]
    batch = random.sample(range(len(clip)), len(clip))
    shares = split(batch, clip, parts)
    assert len(shares) == parts and sorted(sum(shares, ())) == list(range(len(clip)))
    assert all(list(share) == [index for index in batch if index in share] for share in shares)
    owners = [{clip[index] for index in share} for share in shares]
    assert sum(map(len, owners)) == len(clips)
    # The greedy rule: no part is more than one clip ahead of another.
    assert max(map(len, shares)) - min(map(len, shares)) <= max(map(len, clips))


def test_nothing_is_held_out_for_a_share_of_none():
    assert held_out(["a", "b"], 0.0, 1) == frozenset()
    assert held_out([], 0.0, 1) == frozenset()


@given(st.integers(2, 40), st.floats(0.01, 0.9), st.integers(0, 9))
def test_the_held_out_videos_depend_on_ids_and_seed_alone(count, share, seed):
    videos = [f"video {number}" for number in range(count)]
    expected = max(1, round(share * count))
    if expected == count:
        with pytest.raises(TooFewVideos, match=f"{count} videos, {expected} of them"):
            held_out(videos, share, seed)
        return
    found = held_out(videos, share, seed)
    assert len(found) == expected and found <= set(videos)
    assert held_out([*reversed(videos), *videos], share, seed) == found


def test_held_out_videos_differ_between_seeds_and_stay_when_others_join():
    videos = [f"video {number}" for number in range(40)]
    assert len({held_out(videos, 0.25, seed) for seed in range(5)}) == 5
    # 10 of 40, then 11 of 44: those whose hashes come first, so that at most the four new ones push others out.
    assert len(held_out(videos, 0.25, 0) - held_out([*videos, "a", "b", "c", "d"], 0.25, 0)) <= 3


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
