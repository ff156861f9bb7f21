"""The decoder's layers, with the names and shapes of checkpoints; `models.plain` and `models.fast` apply them."""

from typing import Literal, cast

from torch import nn

from models.spatial import CHANNELS

# "plain" applies the paper's operations one by one; "fast" computes the same values at lower cost.
Mode = Literal["fast", "plain"]

STEP = 4  # scale factor from each resolution to the next finer one


class Layers(nn.Module):
    """The decoder's layers.

    `channels` are the visual channels at medium and large resolution, and `widths` are the channels of the small,
    medium and large mask heads. With `fused` False (an ablation) the large head's response is the prediction.
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
    """Upsampling by four: a transposed and a 3x3 convolution, with no activation between them (as the authors)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(inputs, outputs, 2 * STEP, stride=STEP, padding=STEP // 2),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )

    @property
    def transposed(self) -> nn.ConvTranspose2d:
        """Return the transposed convolution."""
        return cast(nn.ConvTranspose2d, self[0])

    @property
    def smoothing(self) -> nn.Conv2d:
        """Return the 3x3 convolution."""
        return cast(nn.Conv2d, self[1])


class MaskHead(nn.Sequential):
    """A fully convolutional network: Conv3x3, ReLU, Conv3x3, ReLU, Conv1x1 to one logit per pixel.

    Its input channels are the visual features, the words and the coordinates, in this order.
    """

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
        """Return the first 3x3 convolution, which reads visual features, words and coordinates."""
        return cast(nn.Conv2d, self[0])

    @property
    def second(self) -> nn.Conv2d:
        """Return the second 3x3 convolution."""
        return cast(nn.Conv2d, self[2])

    @property
    def last(self) -> nn.Conv2d:
        """Return the 1x1 convolution to one logit."""
        return cast(nn.Conv2d, self[4])
