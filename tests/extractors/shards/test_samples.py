"""Samples read from shards: each with its clip's features, its words and its mask."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from extractors.shards.float16 import to_float16
from extractors.shards.samples import StoredSamples
from extractors.shards.shard import ShardReader, ShardWriter

SHAPE = (8, 4, 4, 4)
SIZES = {"small": (4, 4), "medium": (16, 16), "large": (64, 64)}


def feature(number: int, magnitude: float) -> np.ndarray:
    """Features of clip `number`, rectified, of about this magnitude."""
    values = np.random.default_rng(number).standard_normal(SHAPE).astype(np.float32)
    return np.maximum(values, 0) * np.float32(magnitude)


def visual(path: Path, features: dict[str, np.ndarray], scales: bool = True) -> ShardReader:
    arrays = {"features": (SHAPE, np.float16)} | ({"scale": ((), np.float32)} if scales else {})
    with ShardWriter(path, len(features), arrays, {}) as writer:
        for row, (clip, value) in enumerate(features.items()):
            half, scale = to_float16(value, clip)
            writer.write(row, clip, features=half, **({"scale": np.float32(scale)} if scales else {}))
    return ShardReader(path)


def masks(path: Path, ids: list[str]) -> ShardReader:
    with ShardWriter(path, len(ids), {name: (size, np.uint8) for name, size in SIZES.items()}, {}) as writer:
        for row, name in enumerate(ids):
            writer.write(row, name, **{key: np.full(size, row + 1, np.uint8) for key, size in SIZES.items()})
    return ShardReader(path)


def sample(shard: int, clip: str, query: str, shown: bool = True) -> dict[str, object]:
    return {"shard": shard, "clip": clip, "query": query, "shown": shown, "mask": f"{clip}/0"}


@pytest.fixture
def stored(tmp_path: Path) -> StoredSamples:
    """Clips a and b in one shard, c and the small d in another, e in one without scales; five samples of them."""
    with ShardWriter(tmp_path / "text.h5", 2, {"words": ((3, 5), np.float32)}, {}) as writer:
        for row in range(2):
            writer.write(row, f"q{row}", words=np.full((3, 5), row, np.float32))
    return StoredSamples(
        [
            sample(0, "a", "q0"),
            sample(1, "c", "q1"),
            sample(0, "b", "q0", shown=False),
            sample(0, "a", "q1"),
            sample(1, "d", "q0"),
            sample(2, "e", "q0"),
        ],
        ShardReader(tmp_path / "text.h5"),
        [
            visual(tmp_path / "0.h5", {"a": feature(0, 1), "b": feature(1, 1)}),
            visual(tmp_path / "1.h5", {"c": feature(2, 1), "d": feature(3, 1e-5)}),
            visual(tmp_path / "2.h5", {"e": feature(4, 1)}, scales=False),
        ],
        [
            masks(tmp_path / "m0.h5", ["a/0", "b/0"]),
            masks(tmp_path / "m1.h5", ["c/0", "d/0"]),
            masks(tmp_path / "m2.h5", ["e/0"]),
        ],
    )


def test_a_batch_has_each_clip_once_and_its_samples_in_order(stored: StoredSamples) -> None:
    batch = stored.batch([3, 1, 2, 0, 5])
    assert batch.clip.tolist() == [0, 1, 2, 0, 3]  # a, c, b, a, e
    expected = np.stack([feature(0, 1), feature(2, 1), feature(1, 1), feature(4, 1)]).astype(np.float16)
    assert batch.features.dtype == torch.float16
    np.testing.assert_array_equal(batch.features.numpy(), expected)
    assert batch.words[:, 0, 0].tolist() == [1, 1, 0, 0, 0]
    for name, size in SIZES.items():
        found = getattr(batch, name)
        assert found.shape == (5, *size)
        assert found[:, 0, 0].tolist() == [1, 1, 0, 1, 1]  # b's labelled frame does not show the instance
    assert (len(stored), stored.clips) == (6, [[0, 3], [1], [2], [4], [5]])


def test_scaled_features_come_back_in_their_own_magnitude(stored: StoredSamples) -> None:
    batch = stored.batch([4, 0, 5])
    assert batch.features.dtype == torch.float32
    small, ordinary, unscaled = batch.features.numpy()
    np.testing.assert_allclose(small, feature(3, 1e-5), rtol=2.0**-11, atol=1e-10)
    assert 1e-5 < small.max() < 1e-4
    np.testing.assert_array_equal(ordinary, feature(0, 1).astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(unscaled, feature(4, 1).astype(np.float16).astype(np.float32))


def test_samples_travel_to_another_process(stored: StoredSamples) -> None:
    expected = stored.batch([4, 0])
    found = pickle.loads(pickle.dumps(stored)).batch([4, 0])
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.large, expected.large)
