"""The second decoder, PyAV; it runs only in the decoding child process.

It is needed because decord alone does not show what a file contains: its frame count is the number of packets, it may
repeat frames in place of lost ones, and it begins MPEG transport streams with a wrong frame. Declared counts are not
reliable either: the AVI files of J-HMDB declare 48 frames and contain 40.
"""

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

_TICK = Fraction(1, 1000)  # filters require a time base; their times are not used

Frame = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Summary:
    """The number of frames and the presentation time of each in seconds (None if the container has none)."""

    count: int
    seconds: tuple[float | None, ...]


class PyAVDecoder:
    """A video file opened for one pass, by `first_frame` or by `frames`; `damage` describes what its container lacks.

    The constructor and the methods raise DamagedVideo if the file has no video, is to be shown rotated or mirrored, or
    cannot be decoded by PyAV."""

    def __init__(self, path: Path, damage: str) -> None:
        self.size = 0, 0
        self._damage = damage
        self._times: list[int | None] = []
        self._corrupt: int | None = None  # index of the first damaged frame
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
        """Decode the first frame and return it with a summary of the packets; no further frames are decoded."""
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
        """Decode the whole file once; yield each of the increasing indices `wanted` with its RGB frame."""
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
        """Return the summary of the file after `frames` has ended; frames up to `last` must not be damaged."""
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
        """Close the file."""
        self._container.close()

    def _examine(self, index: int, frame: av.VideoFrame) -> None:
        size = frame.height, frame.width
        if not index:
            self.size = size
            sides: Any = frame.side_data  # its type stub accepts only names
            if sides.get(Type.DISPLAYMATRIX) is not None:  # FFmpeg drops an identity matrix
                raise DamagedVideo(_rotated(f"a display matrix, {frame.rotation} degrees"))
        if size != self.size:
            first = f"{self.size[0]} x {self.size[1]}"
            raise DamagedVideo(f"frame {index + 1} is {size[0]} x {size[1]}, but the first is {first}")
        if self._corrupt is None and frame.is_corrupt:
            self._corrupt = index

    def _summary(self, times: Sequence[int]) -> Summary:
        """Return a summary; all times are unknown if one is missing or not later than the one before."""
        count, base = len(self._times), self._stream.time_base
        if len(times) < count or base is None or any(after <= before for before, after in pairwise(times)):
            return Summary(count, (None,) * count)
        numerator, denominator = base.numerator, base.denominator
        return Summary(count, tuple(time * numerator / denominator for time in times))


def image(path: Path) -> Frame:
    """Read the RGB pixels of an image file. Raises DamagedVideo."""
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            return _Conversion(frame).rgb(frame)
    except (av.FFmpegError, ValueError, StopIteration, IndexError) as error:
        raise DamagedVideo(f"PyAV cannot read {path.name}: {_words(error)}") from None


class _Conversion:
    """Conversion of frames with the size and format of a given one to RGB in a filter graph, as decord does it.

    Equal graphs give bit-identical pixels in all formats, also between FFmpeg 7.1 and 8.0; PyAV's to_ndarray differs
    by up to 35 levels for frames with 10 bits or an odd size."""

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
    """Raised if a file cannot be decoded correctly and completely."""
