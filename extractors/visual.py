"""Visual features: what the frozen trunk makes of clips."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float16, UInt8

from models.i3d import I3D, to_unit_range

_LARGEST = float(np.finfo(np.float16).max)

Clip = UInt8[np.ndarray, "t s s 3"]


def extract(i3d: I3D, clips: Iterable[Clip], tap: str, batch: int) -> Iterator[Float16[np.ndarray, "c t2 s2 s2"]]:
    """The features after layer `tap` of each clip (letterboxed RGB), on the device and in the dtype of the trunk.

    Always `batch` clips at a time, the last ones completed by zeros, since convolution results depend on that number
    in their last bits: give the clips of one video, so that its features depend on no other. The trunk is put in
    evaluation mode. Raises FeatureOutOfRange."""
    i3d.eval().to(memory_format=torch.channels_last_3d)
    weight = next(i3d.parameters())
    remaining, first = iter(clips), 0
    while chunk := list(islice(remaining, batch)):
        frames = torch.from_numpy(np.stack(chunk)).to(weight.device)
        images = to_unit_range(frames).to(weight.dtype)
        missing = batch - len(chunk)
        images = torch.cat([images, images.new_zeros((missing, *images.shape[1:]))])
        with torch.inference_mode():
            features = i3d.trunk(images, tap)[: len(chunk)].float().cpu().numpy()
        for place, feature in enumerate(features):
            yield _halved(feature, first + place, tap)
        first += len(chunk)


def _halved(feature: np.ndarray, clip: int, tap: str) -> Float16[np.ndarray, "c t2 s2 s2"]:
    largest = float(np.abs(feature).max(initial=0.0))
    if not largest <= _LARGEST:  # also where it is not a number
        raise FeatureOutOfRange(
            f"clip {clip}: features after {tap} reach {largest:g}; float16 holds {_LARGEST:g}. Check visual.weights "
            "and visual.batch_norm: the two may not belong together."
        )
    return feature.astype(np.float16)


class FeatureOutOfRange(ValueError):
    """Features that float16 cannot hold."""
