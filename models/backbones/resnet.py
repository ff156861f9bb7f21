"""ResNet (He et al., CVPR 2016) on single frames of a clip, with torchvision's layers and parameter names.

As in `models.backbones.i3d` the *trunk* (all layers up to a tap; frozen, with cached outputs) is followed by the *head*
(trained with ACGA), which is the last block of `layer3`.
"""

import re
from collections import Counter
from collections.abc import Collection

from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from data.wording import counted
from models.backbones.i3d import SPACE_STRIDE, UnknownTap
from models.backbones.initialisation import calibrate, initialise_linear, initialise_trunk, smooth_clips

# Depth -> number of blocks of layer1 to layer4; from depth 50 on they are bottlenecks with four times the channels.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
FIRST_BOTTLENECK = 50
STEM = ("conv1", "bn1", "relu", "maxpool")

# The normalisation that torchvision's weights were trained with, for RGB in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

CALIBRATION_STEP = 4  # frames; consecutive frames of the calibration clips differ little


class UnknownDepth(ValueError):
    """Error raised if torchvision has no ResNet of the given depth."""


class WrongFrameCount(ValueError):
    """Error raised if the number of frames to choose is 0 or exceeds the length of the clip."""


class NotAResNet(ValueError):
    """Error raised if a state dict is not that of a torchvision ResNet."""


class ResNet(nn.Module):
    """torchvision's ResNet of a given depth (18 to 152), applied to `frames` frames of a clip one by one.

    Parameters are drawn from PyTorch's global generator until they are seeded or loaded. `channels` maps each block to
    its number of output channels. Raises UnknownDepth and WrongFrameCount.
    """

    def __init__(self, depth: int, frames: int) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise UnknownDepth(f"ResNet depth {depth}: expected one of {', '.join(map(str, BLOCKS))}.")
        if frames < 1:
            raise WrongFrameCount(f"ResNet on {counted(frames, 'frame')} of a clip: expected 1 or more.")
        self.modality = "rgb"
        self.depth = depth
        self.frames = frames
        widening = 1 if depth < FIRST_BOTTLENECK else 4
        self.channels = {
            f"layer{layer}.{block}": 32 * 2**layer * widening
            for layer, blocks in enumerate(BLOCKS[depth], 1)
            for block in range(blocks)
        }
        last = BLOCKS[depth][2] - 1
        self.tap, self.head_name = f"layer3.{last - 1}", f"layer3.{last}"
        for name, layer in torchvision_layers(depth):
            self.add_module(name, layer)

    def trunk(self, clip: Float[Tensor, "b 3 t h w"], tap: str | None = None) -> Float[Tensor, "b c f h2 w2"]:
        """Return the output of the block `tap` for each chosen frame, after ReLU.

        None means `self.tap`, the input of the head, with `channels[self.tap]` channels at h/16, w/16. The clip is RGB
        in [-1, 1]; the padding of letterboxed frames (-1) is seen as black. Raises UnknownTap and WrongFrameCount.
        """
        chosen = clip[:, :, frame_choice(clip.shape[2], self.frames)]
        maps = self.layers(rearrange(chosen, "b c f h w -> (b f) c h w"), self.tap if tap is None else tap)
        return rearrange(maps, "(b f) c h w -> b c f h w", f=self.frames)

    def head(self, features: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b v f h w"]:
        """Return the output of the last block of `layer3` for the trunk's output: as many channels, after ReLU.

        The batch statistics of batch norm are taken over all frames of all clips.
        """
        maps: Tensor = self.get_submodule(self.head_name)(rearrange(features, "b c f h w -> (b f) c h w"))
        return rearrange(maps, "(b f) c h w -> b c f h w", f=features.shape[2])

    def features_shape(self, length: int, size: int) -> tuple[int, int, int, int]:
        """Return the shape (c, f, h, w) of the trunk's output for frames of `size` x `size` pixels and any `length`."""
        return (self.channels[self.tap], self.frames, size // SPACE_STRIDE, size // SPACE_STRIDE)

    def layers(self, images: Float[Tensor, "n 3 h w"], tap: str) -> Float[Tensor, "n c h2 w2"]:
        """Return the output of the block `tap` for RGB images in [-1, 1]. Raises UnknownTap."""
        if tap not in self.channels:
            raise UnknownTap(f"ResNet {self.depth} has no block {tap!r} to tap: expected one of {[*self.channels]}.")
        blocks = [*self.channels]
        maps = imagenet_normalised(images)
        for name in (*STEM, *blocks[: blocks.index(tap) + 1]):
            maps = self.get_submodule(name)(maps)
        return maps


def frame_choice(length: int, frames: int) -> list[int]:
    """Return the indices of evenly spaced frames: the centre of each of `frames` equal parts of the clip.

    They are floor((k + 0.5) * length / frames), for example 2, 6, 10 and 14 of 16 frames. Raises WrongFrameCount.
    """
    if length < frames:
        raise WrongFrameCount(
            f"clip of {counted(length, 'frame')}: expected at least the {frames} that ResNet is to see."
        )
    return [(2 * part + 1) * length // (2 * frames) for part in range(frames)]


def imagenet_normalised(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Return RGB images in [-1, 1] normalised with ImageNet's mean and standard deviation (of RGB in [0, 1])."""
    mean = rearrange(images.new_tensor(IMAGENET_MEAN), "c -> c 1 1")
    deviation = rearrange(images.new_tensor(IMAGENET_DEVIATION), "c -> c 1 1")
    return ((images + 1) / 2 - mean) / deviation


def torchvision_layers(depth: int) -> list[tuple[str, nn.Module]]:
    """Return the names and layers of torchvision's ResNet of a depth in `BLOCKS`; no weights are downloaded."""
    # Imported here because it takes two seconds, which only users of a ResNet should wait.
    from torchvision.models import resnet

    block = resnet.BasicBlock if depth < FIRST_BOTTLENECK else resnet.Bottleneck
    return list(resnet.ResNet(block, [*BLOCKS[depth]]).named_children())


def resnet_depth(names: Collection[str]) -> int:
    """Return the depth of the ResNet whose state dict has these parameter names. Raises NotAResNet."""
    matches = (re.fullmatch(r"(layer[1-4])\.\d+\.conv1\.weight", name) for name in names)
    counts = Counter(match[1] for match in matches if match)
    found = tuple(counts[f"layer{layer}"] for layer in range(1, 5))
    bottleneck = "layer1.0.conv3.weight" in names
    for depth, blocks in BLOCKS.items():
        if blocks == found and bottleneck == (depth >= FIRST_BOTTLENECK):
            return depth
    raise NotAResNet(
        f"state dict with {found} {'bottlenecks' if bottleneck else 'blocks'} in layer1 to layer4 and names such as "
        f"{sorted(names)[:3]}: expected that of a ResNet of torchvision, {', '.join(map(str, BLOCKS))} layers deep."
    )


def seed_resnet(resnet: ResNet, seed: int) -> None:
    """Initialise a ResNet as `seed_i3d` initialises I3D, and its classifier with standard deviation 0.02.

    The outputs of the residual blocks grow with the number of blocks, as in a trained network. The result depends
    neither on `frames` nor on the number of threads: computation is in float64 and rounded once.
    """
    generator = Generator().manual_seed(seed)
    initialise_trunk(resnet, generator)
    initialise_linear(resnet, generator)
    clips = smooth_clips(3, generator)[:, :, ::CALIBRATION_STEP]
    images = rearrange(clips, "b c t h w -> (b t) c h w").double()
    calibrate(resnet, lambda: resnet.layers(images, [*resnet.channels][-1]))
