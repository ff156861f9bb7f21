"""A small part of the miniature in memory: drawn clips, their features by a seeded I3D, word vectors and masks.

Nothing is encoded, decoded or stored, so that it takes PyTorch, NumPy and OpenCV and no video or HDF5 library.
"""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float, UInt8
from torch import Tensor

from data.miniature.drawing import pictures
from data.miniature.scenes import Scene, Spec, scenes
from extractors.text.sentences import word_vectors
from models.backbones.folded_batch_norm import fold_batch_norm
from models.backbones.i3d import I3D, to_unit_range
from models.training.samples import Batch

LENGTH = 16  # frames of a clip; the labelled one is the ninth
WORDS, WORD_DIM = 12, 48  # as in the demo


class DrawnMiniature:
    """A `models.training.samples.SampleSource` of so many clips of `pixels` x `pixels`, a multiple of 16."""

    def __init__(self, clips: int, pixels: int, i3d: I3D, device: torch.device) -> None:
        spec = Spec(seed=0, train_clips=clips, test_clips=0, size=pixels, frames=24, labels=1)
        drawn = scenes(spec)
        (labelled,) = spec.labelled
        frames, masks = zip(*(clip_of(scene, pixels, labelled) for scene in drawn), strict=True)
        self.features = features_of(i3d, frames, device)
        self.samples = [
            (clip, masks[clip][instances(scene).index(sentence.instance)], scene.id)
            for clip, scene in enumerate(drawn)
            for sentence in scene.sentences
        ]
        sentences = [sentence.text for scene in drawn for sentence in scene.sentences]
        self.words = torch.from_numpy(word_vectors(sentences, "hash", WORD_DIM, WORDS, 0, "zero").values)

    @property
    def videos(self) -> Sequence[str]:
        """The id of each sample's video."""
        return [video for _, _, video in self.samples]

    @property
    def clips(self) -> Sequence[Sequence[int]]:
        """The positions of the samples of each clip."""
        of_clip = [[] for _ in self.features]
        for position, (clip, _, _) in enumerate(self.samples):
            of_clip[clip].append(position)
        return of_clip

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples at these positions, in this order; the features of a clip once."""
        wanted = list(dict.fromkeys(self.samples[index][0] for index in indices))
        masks = np.stack([self.samples[index][1] for index in indices])
        return Batch(
            features=self.features[wanted],
            clip=torch.tensor([wanted.index(self.samples[index][0]) for index in indices]),
            words=self.words[list(indices)],
            small=covered(masks, 16),
            medium=covered(masks, 4),
            large=covered(masks, 1),
        )


def clip_of(
    scene: Scene, pixels: int, labelled: int
) -> tuple[UInt8[np.ndarray, "t h w 3"], UInt8[np.ndarray, "n h w"]]:
    """The clip around a labelled frame, counted from 1, and its actors' masks, in the order of `Scene.actors`."""
    start = labelled - 1 - LENGTH // 2
    clip = list(islice(pictures(scene, pixels), start, start + LENGTH))
    return np.stack([picture.image for picture in clip]), clip[LENGTH // 2].masks


def instances(scene: Scene) -> list[int]:
    """The instances of a scene's actors, in the order of its masks."""
    return [actor.instance for actor in scene.actors]


def features_of(
    i3d: I3D, clips: Sequence[UInt8[np.ndarray, "t h w 3"]], device: torch.device
) -> Float[Tensor, "c f t h w"]:
    """What the trunk makes of the clips, on the CPU."""
    trunk = fold_batch_norm(i3d).to(device)
    with torch.inference_mode():
        found = [trunk.trunk(to_unit_range(torch.from_numpy(clip[None]).to(device))).cpu() for clip in clips]
    return torch.cat(found).clone(memory_format=torch.contiguous_format)


def covered(masks: UInt8[np.ndarray, "b h w"], cell: int) -> UInt8[Tensor, "b h2 w2"]:
    """The masks by cells of so many pixels a side: 1 where half of them or more are."""
    share = reduce(masks.astype(np.float32), "b (h y) (w x) -> b h w", "mean", y=cell, x=cell)
    return torch.from_numpy((share >= 0.5).astype(np.uint8))
