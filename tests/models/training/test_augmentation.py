import pytest
import torch
from torch import Generator, equal

from models.training.augmentation import MissingMirroredWords, flipped, is_flipped
from models.training.samples import Batch


def batch(mirrored_words: bool = True) -> Batch:
    """Two clips: the second and the first sentence speak of the second one, the last of the first."""
    generator = Generator().manual_seed(3)
    masks = [torch.randint(0, 2, (3, size, size), generator=generator).to(torch.uint8) for size in (2, 8, 32)]
    words = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1).expand(3, 2, 4)
    features = torch.randn(2, 5, 4, 2, 2, generator=generator)
    return Batch(features, torch.tensor([1, 1, 0]), words, *masks, -words if mirrored_words else None)


def test_a_flag_mirrors_the_clip_with_its_sentences_and_masks():
    before = batch()
    after = flipped(before, [True, True, False])
    assert after.words[:, 0, 0].tolist() == [-1.0, -2.0, 3.0]
    assert equal(after.features[0], before.features[0])
    assert equal(after.features[1, ..., 0], before.features[1, ..., 1])
    assert equal(after.features[1, ..., 1], before.features[1, ..., 0])
    for name in ("small", "medium", "large"):
        old, new = getattr(before, name), getattr(after, name)
        for column in range(old.shape[-1]):
            assert equal(new[:2, :, column], old[:2, :, old.shape[-1] - 1 - column])
        assert equal(new[2], old[2])
    assert equal(after.clip, before.clip)


def test_no_flag_changes_nothing():
    before, after = batch(), flipped(batch(), [False, False, False])
    for name in ("features", "words", "small", "medium", "large"):
        assert equal(getattr(after, name), getattr(before, name))


def test_a_source_without_mirrored_words_is_refused():
    with pytest.raises(MissingMirroredWords, match=r"no mirrored words.*switch flip off"):
        flipped(batch(mirrored_words=False), [True, True, False])


def test_which_clips_are_flipped_is_fixed_for_ever():
    # PCG64's raw words are promised not to change with NumPy's version.
    flags = [is_flipped(2019, 0, step, clip) for step in range(2) for clip in range(6)]
    assert [place for place, flag in enumerate(flags) if flag] == [0, 1, 3, 8, 11]


def test_half_of_the_clips_are_flipped_and_every_number_counts():
    steps = ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))
    flags = [tuple(is_flipped(seed, epoch, step, clip) for clip in range(500)) for seed, epoch, step in steps]
    assert all(200 < sum(row) < 300 for row in flags)
    assert len(set(flags)) == len(steps)
