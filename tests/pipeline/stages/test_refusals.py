"""What recipes say where they refuse."""

import numpy as np
import pytest

from extractors.shards.float16 import FeatureOutOfRange
from pipeline.stages.features.visual import rows_of_videos, stored


def test_features_that_float16_cannot_hold_are_refused_by_their_clip() -> None:
    features = np.array([1.0, 1e6], np.float32)
    with pytest.raises(FeatureOutOfRange, match=r"clip T6bNPuKV-wY/00097: features after mixed_4e reach 1e\+06"):
        stored(features, "T6bNPuKV-wY/00097", "mixed_4e")


def test_rows_are_found_by_video_in_their_order() -> None:
    assert rows_of_videos(["a/00001", "a/00009", "b/c/00002"]) == {"a": [0, 1], "b/c": [2]}
