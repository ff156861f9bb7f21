"""The decoder's layers, under the names and shapes of checkpoints; `plain` and `fast` say how they are applied."""

from typing import Literal, cast

from torch import nn

from models.spatial import CHANNELS

# The paper's operations one by one, or identities that give the same values faster.
Mode = Literal["fast", "plain"]

STEP = 4  # between resolutions


class Layers(nn.Module):
    """The decoder's layers: `channels` are the visual channels at medium and large size, `widths` the mask heads'.

    Without fusion (`fused` False, for the ablation) the large head's response is the prediction.
    """

    def __init__(
        self, visual_channels: int, word_dim: int, channels: tuple[int, int], widths: tuple[int, int, int], fused: bool
    ) -> None:
        super().__init__()
        self.channels = channels
        self.widths = widths
        medium, large = channels
        beside = word_dim + CHANNELS
        self.upsample_medium = Upsampler(visual_channels, medium)
        self.upsample_large = Upsampler(medium, large)
        self.mask_small = MaskHead(visual_channels + beside, widths[0])
        self.mask_medium = MaskHead(medium + beside, widths[1])
        self.mask_large = MaskHead(large + beside, widths[2])
        self.fusion = nn.Conv2d(3, 1, 3, padding=1) if fused else None


class Upsampler(nn.Sequential):
    """What makes a map four times finer; the authors have no activation between the two."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(inputs, outputs, 2 * STEP, stride=STEP, padding=STEP // 2),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )

    @property
    def transposed(self) -> nn.ConvTranspose2d:
        """The first layer."""
        return cast(nn.ConvTranspose2d, self[0])

    @property
    def smoothing(self) -> nn.Conv2d:
        """The second layer."""
        return cast(nn.Conv2d, self[1])


class MaskHead(nn.Sequential):
    """The fully convolutional network that responds to visual features, words and coordinates, in this order."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 1, 1),
        )

    @property
    def first(self) -> nn.Conv2d:
        """The layer that reads all three."""
        return cast(nn.Conv2d, self[0])

    @property
    def second(self) -> nn.Conv2d:
        """The layer after the first ReLU."""
        return cast(nn.Conv2d, self[2])

    @property
    def last(self) -> nn.Conv2d:
        """The 1x1 convolution to a logit."""
        return cast(nn.Conv2d, self[4])
