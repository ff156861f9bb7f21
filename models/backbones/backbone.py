"""What can stand before ACGA: I3D on clips or flow, or a ResNet on single frames. Each has a trunk and a head."""

from dataclasses import dataclass

from models.backbones.i3d import I3D
from models.backbones.initialisation import seed_i3d
from models.backbones.resnet import BLOCKS, ResNet, seed_resnet

Backbone = I3D | ResNet

NAMES = ("i3d", *(f"resnet{depth}" for depth in BLOCKS))


class UnknownBackbone(ValueError):
    """A backbone that does not exist."""


@dataclass(frozen=True)
class BackboneSizes:
    """All that is needed to build a backbone but its weights.

    `eps` and `width` (share of the channels) are I3D's; `frames`, how many of a clip are looked at, is a ResNet's.
    """

    name: str
    modality: str
    eps: float
    width: float
    frames: int


def assemble_backbone(sizes: BackboneSizes) -> Backbone:
    """Return a backbone of these sizes whose weights are to be loaded or seeded. Raises UnknownBackbone."""
    if sizes.name not in NAMES:
        raise UnknownBackbone(f"Backbone {sizes.name!r}: expected one of {', '.join(NAMES)}.")
    if sizes.name == "i3d":
        return I3D(sizes.modality, sizes.eps, sizes.width)
    return ResNet(int(sizes.name.removeprefix("resnet")), sizes.frames)


def sizes_of(video: Backbone) -> BackboneSizes:
    """Return what `assemble_backbone` needs to build this backbone again."""
    if isinstance(video, I3D):
        return BackboneSizes("i3d", video.modality, video.eps, video.width, 0)
    return BackboneSizes(f"resnet{video.depth}", video.modality, 0.0, 1.0, video.frames)


def seed_backbone(video: Backbone, seed: int) -> None:
    """Give a backbone calibrated random weights, a function of the seed alone."""
    if isinstance(video, I3D):
        seed_i3d(video, seed)
    else:
        seed_resnet(video, seed)
