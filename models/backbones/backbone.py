"""The backbones of ACGA: I3D on RGB or optical flow, or a ResNet on single frames; each has a trunk and a head."""

from dataclasses import dataclass

from models.backbones.i3d import I3D
from models.backbones.initialisation import seed_i3d
from models.backbones.resnet import BLOCKS, ResNet, seed_resnet

Backbone = I3D | ResNet

NAMES = ("i3d", *(f"resnet{depth}" for depth in BLOCKS))


class UnknownBackbone(ValueError):
    """Error raised if the name of a backbone is unknown."""


@dataclass(frozen=True)
class BackboneSizes:
    """The architecture of a backbone, without its weights.

    Only I3D uses `modality`, `eps` (of its batch norms) and `width` (the share of the paper's channels); only a ResNet
    uses `frames` (the number of frames that it sees of a clip).
    """

    name: str
    modality: str
    eps: float
    width: float
    frames: int


def assemble_backbone(sizes: BackboneSizes) -> Backbone:
    """Return a backbone of these sizes, whose weights are still to be loaded or seeded. Raises UnknownBackbone."""
    if sizes.name not in NAMES:
        raise UnknownBackbone(f"Backbone {sizes.name!r}: expected one of {', '.join(NAMES)}.")
    if sizes.name == "i3d":
        return I3D(sizes.modality, sizes.eps, sizes.width)
    return ResNet(int(sizes.name.removeprefix("resnet")), sizes.frames)


def sizes_of(video: Backbone) -> BackboneSizes:
    """Return the sizes from which `assemble_backbone` can rebuild this backbone."""
    if isinstance(video, I3D):
        return BackboneSizes("i3d", video.modality, video.eps, video.width, 0)
    return BackboneSizes(f"resnet{video.depth}", video.modality, 0.0, 1.0, video.frames)


def seed_backbone(video: Backbone, seed: int) -> None:
    """Initialise a backbone with calibrated random weights, which depend only on its sizes and the seed."""
    if isinstance(video, I3D):
        seed_i3d(video, seed)
    else:
        seed_resnet(video, seed)
