"""Errors of video decoding.

MissingVideo, UnreadableVideo, FrameOutOfRange, FrameSizeMismatch and DecodersDisagree are caused by the file and occur
again at every attempt. DecodingTimedOut and DecoderDied may be transient; another attempt may succeed.
"""


class MissingVideo(FileNotFoundError):
    """Raised if the path of a video is neither a file nor a folder."""


class UnreadableVideo(RuntimeError):
    """Raised if a video is damaged or of an unsupported kind."""


class FrameOutOfRange(ValueError):
    """Raised if a frame before the first or after the last one is requested."""


class FrameSizeMismatch(ValueError):
    """Raised if the frames of a video do not have the size that the dataset declares."""


class DecodersDisagree(RuntimeError):
    """Raised if the two decoders give different frames.

    `offset` is added to decord's indices to get PyAV's; it is None if no offset explains the difference."""

    def __init__(self, message: str, offset: int | None) -> None:
        super().__init__(message)
        self.offset = offset


class DecodingTimedOut(RuntimeError):
    """Raised if a video was not decoded within its time limit."""

    transient = True


class DecoderDied(RuntimeError):
    """Raised if the decoding process ended or could not read for a reason other than the video."""

    transient = True
