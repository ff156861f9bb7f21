"""The second decoder, PyAV: what it says of a video file. Runs in the decoding process alone.

decord by itself does not tell what a file holds. Its count is that of the packets, it can repeat frames where some are
lost, and it begins MPEG transport streams with a wrong one. What containers declare is no measure either: the AVI files
of J-HMDB declare 48 frames and hold 40."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type
from jaxtyping import UInt8

_TICK = Fraction(1, 1000)  # filters ask for a time base; times are not read from them

Frame = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Summary:
    """How many frames there are, and the presentation time of each (None where the container has none)."""

    count: int
    seconds: tuple[float | None, ...]


class PyAVDecoder:
    """A video file, opened for one pass, by `glance` or by `frames`; `damage` is what its container lacks.

    Raises DamagedVideo where it holds no video or one that is to be shown rotated; all methods do, for these and for
    what PyAV cannot decode."""

    def __init__(self, path: Path, damage: str) -> None:
        self.size = 0, 0
        self._damage = damage
        self._times: list[int | None] = []
        self._corrupt: int | None = None  # the first damaged frame
        self._stopped = ""
        try:
            self._container = av.open(str(path), metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            why = f"no frames decode, and {damage}" if damage else f"it cannot be opened: {_words(error)}"
            raise DamagedVideo(why) from None
        stream = self._container.streams.best("video")
        if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
            why = f"no frames decode, and {damage}" if damage else "it has no video stream of a known codec"
            raise DamagedVideo(why)
        stream.codec_context.thread_count = 1
        self._stream = stream
        tag = next((value for key, value in stream.metadata.items() if key.lower() == "rotate"), "0")
        if tag.strip() not in ("", "0"):
            raise DamagedVideo(_rotated(f"the tag rotate={tag}"))

    def first_frame(self) -> tuple[Frame, Summary]:
        """The first frame, and what the packets announce: only as much is decoded as the first frame takes."""
        first = None
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    self._times.append(packet.pts)
                for frame in packet.decode() if first is None else ():
                    self._examine(0, frame)
                    first = _Conversion(frame).rgb(frame)
                    break
        except (av.FFmpegError, ValueError) as error:
            raise DamagedVideo(f"no frame decodes: {_words(error)}") from None
        if first is None:
            raise DamagedVideo("no frame decodes")
        return first, self._summary(sorted(time for time in self._times if time is not None))

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """The RGB frames at those increasing indices; decodes the whole file, once."""
        following = iter((*wanted, -1))
        awaited = next(following)
        conversion = None
        try:
            for index, frame in enumerate(self._container.decode(self._stream)):
                self._examine(index, frame)
                self._times.append(frame.pts)
                if index == awaited:
                    awaited = next(following)
                    conversion = conversion or _Conversion(frame)
                    yield index, conversion.rgb(frame)
        except (av.FFmpegError, ValueError) as error:
            self._stopped = _words(error)

    def summary_up_to(self, last: int) -> Summary:
        """What the file holds, when `frames` has ended, and frames up to `last` are wanted."""
        count, declared = len(self._times), self._stream.frames
        counted = f"{count}{f' of {declared} declared' if declared else ''} frames decode"
        if self._damage:
            raise DamagedVideo(f"{counted}, and {self._damage}")
        if self._stopped:
            raise DamagedVideo(f"{counted}, then: {self._stopped}")
        if not count:
            raise DamagedVideo("no frame decodes")
        if self._corrupt is not None and self._corrupt <= last:
            raise DamagedVideo(f"{counted}, but frame {self._corrupt + 1} is damaged")
        return self._summary([time for time in self._times if time is not None])

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def _examine(self, index: int, frame: av.VideoFrame) -> None:
        size = frame.height, frame.width
        if not index:
            self.size = size
            sides: Any = frame.side_data  # its stub knows names alone
            if sides.get(Type.DISPLAYMATRIX) is not None:  # an identity is not handed on
                raise DamagedVideo(_rotated(f"a display matrix, {frame.rotation} degrees"))
        if size != self.size:
            first = f"{self.size[0]} x {self.size[1]}"
            raise DamagedVideo(f"frame {index + 1} is {size[0]} x {size[1]}, but the first is {first}")
        if self._corrupt is None and frame.is_corrupt:
            self._corrupt = index

    def _summary(self, times: Sequence[int]) -> Summary:
        """Times are unknown for all frames where one is missing or not after the one before."""
        count, base = len(self._times), self._stream.time_base
        if len(times) < count or base is None or any(after <= before for before, after in pairwise(times)):
            return Summary(count, (None,) * count)
        numerator, denominator = base.numerator, base.denominator
        return Summary(count, tuple(time * numerator / denominator for time in times))


def image(path: Path) -> Frame:
    """The RGB pixels of an image file. Raises DamagedVideo."""
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            return _Conversion(frame).rgb(frame)
    except (av.FFmpegError, ValueError, StopIteration, IndexError) as error:
        raise DamagedVideo(f"PyAV cannot read {path.name}: {_words(error)}") from None


class _Conversion:
    """Frames like a given one to RGB as decord does it, in a filter graph.

    Equal graphs give equal pixels, bit for bit, in all formats, and also by FFmpeg 7.1 against 8.0; PyAV's to_ndarray
    differs by up to 35 levels where a frame has 10 bits or an odd size."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._graph = av.filter.Graph()
        self._graph.threads = 1
        source = self._graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_TICK)
        scale, rgb, sink = self._graph.add("scale"), self._graph.add("format", "rgb24"), self._graph.add("buffersink")
        self._graph.link_nodes(source, scale, rgb, sink).configure()

    def rgb(self, frame: av.VideoFrame) -> Frame:
        self._graph.push(frame)
        converted: Any = self._graph.pull()
        return np.ascontiguousarray(converted.to_ndarray())


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error.strerror if isinstance(error, av.FFmpegError) else error}"


def _rotated(by: str) -> str:
    return (
        f"it is to be shown rotated or mirrored ({by}), which decoders do differently: encode it anew as it is shown "
        "(ffmpeg -i OLD NEW) or, where its annotations lie on the frames as stored, without that mark (ffmpeg "
        "-display_rotation 0 -i OLD -c copy NEW)"
    )


class DamagedVideo(Exception):
    """A file that cannot be decoded as what it claims to be."""
