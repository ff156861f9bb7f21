"""The batches and the sample source of training: sentences, their target masks, and the features of their clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Sentences, their target masks {0, 1} at three resolutions, and the trunk's features of their clips.

    `clip` holds the index in `features` of each sentence's clip. `mirrored_words` are the word vectors of the sentences
    with left and right swapped, or None if the source has none.
    """

    features: Float[Tensor, "c f t h w"]
    clip: Int64[Tensor, " b"]
    words: Float[Tensor, "b l d"]
    small: UInt8[Tensor, "b h w"]
    medium: UInt8[Tensor, "b 4*h 4*w"]
    large: UInt8[Tensor, "b 16*h 16*w"]
    mirrored_words: Float[Tensor, "b l d"] | None = None


@runtime_checkable
class SampleSource(Protocol):
    """A source of training samples; `batch` may be called from another thread, one call at a time."""

    @property
    def clips(self) -> Sequence[Sequence[int]]:
        """Return the positions of each clip's samples; every sample belongs to one clip."""
        ...

    @property
    def videos(self) -> Sequence[str]:
        """Return the id of each sample's video."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return the samples at these positions, in this order."""
        ...
