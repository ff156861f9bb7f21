"""Extraction of visual features from clips with a frozen trunk."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float16, Float32, UInt8
from torch import Tensor

from models.backbones.backbone import Backbone
from models.backbones.i3d import to_unit_range
from models.training.sampling import prefetched

Clips = UInt8[np.ndarray, "n t s s 3"] | Float16[np.ndarray, "n t s s 2"]


def extract(
    video: Backbone, load: Callable[[Sequence[int]], Clips], batches: Sequence[Sequence[int]], tap: str, batch: int
) -> Iterator[tuple[int, Float32[np.ndarray, "c t2 s2 s2"]]]:
    """Yield the position of each clip with its features after layer `tap`, in the order of the positions in `batches`.

    `load` reads clips: letterboxed RGB, or flow in [-1, 1] for a flow backbone; the next batch is loaded in a thread.
    Incomplete batches are padded with zeros to `batch` clips, since convolution results depend on the batch size in
    their last bits. A batch must not contain clips of several videos, so that no feature depends on another video.
    Runs on the device and in the dtype of the trunk, which is put in evaluation mode."""
    video.eval()
    weight = next(video.parameters())
    for positions, clips in zip(batches, prefetched(load, batches), strict=True):
        images = as_images(torch.from_numpy(clips).to(weight.device)).to(weight.dtype)
        images = torch.cat([images, images.new_zeros((batch - len(images), *images.shape[1:]))])
        with torch.inference_mode():
            features = video.trunk(images, tap)[: len(clips)].float().cpu().numpy()
        yield from zip(positions, features, strict=True)


def as_images(clips: UInt8[Tensor, "b t s s 3"] | Float[Tensor, "b t s s 2"]) -> Float[Tensor, "b i t s s"]:
    """Return clips as the input of a trunk: float32 in [-1, 1], channels first."""
    if clips.dtype == torch.uint8:
        return to_unit_range(clips)
    return rearrange(clips, "b t h w c -> b c t h w").float()


def batches_of(positions: Sequence[int], batch: int) -> list[Sequence[int]]:
    """Split the positions of one video's clips into batches of at most `batch`."""
    return [positions[start : start + batch] for start in range(0, len(positions), batch)]
