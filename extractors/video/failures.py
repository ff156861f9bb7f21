"""What can go wrong with a video.

MissingVideo, UnreadableVideo, FrameOutOfRange, FrameSizeMismatch and DecodersDisagree come out the same however often
one tries: they lie in the file. DecodingTimedOut and DecoderDied may not: try again.
"""


class MissingVideo(FileNotFoundError):
    """Neither a file nor a folder."""


class UnreadableVideo(RuntimeError):
    """A video that does not decode as what it claims to be."""


class FrameOutOfRange(ValueError):
    """A frame before the first or after the last."""


class FrameSizeMismatch(ValueError):
    """A video whose frames are not of the size that the data set declares."""


class DecodersDisagree(RuntimeError):
    """A frame that is not the same by both decoders. `offset` is added to decord's indices to get PyAV's, None where no
    offset explains the difference."""

    def __init__(self, message: str, offset: int | None) -> None:
        super().__init__(message)
        self.offset = offset


class DecodingTimedOut(RuntimeError):
    """A video that was not decoded within its time limit."""

    transient = True


class DecoderDied(RuntimeError):
    """The decoding process ended, or could not read, for a reason that does not lie in the video."""

    transient = True
