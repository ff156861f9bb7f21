"""Videos for the tests, made by PyAV: whole, odd and damaged ones. Makers take the path to write to."""

import shutil
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

COUNT, HEIGHT, WIDTH = 24, 48, 64
IMAGES = 6  # in a folder

Maker = Callable[[Path], object]


def numbered(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """An RGB frame of noise that shows its index in binary: bright blocks are ones."""
    image = np.random.default_rng(index).integers(40, 80, (height, width, 3)).astype(np.uint8)
    for bit in range(6):
        if index >> bit & 1:
            left = bit * width // 6
            image[height // 3 : height * 2 // 3, left + 1 : left + width // 6] = 230
    return image


def shown(image: np.ndarray) -> int:
    """The index that a frame shows."""
    height, width = image.shape[:2]
    middle = image[height // 2 - 4 : height // 2 + 4]
    blocks = (middle[:, bit * width // 6 + 3 : bit * width // 6 + width // 6 - 2] for bit in range(6))
    return sum(1 << bit for bit, block in enumerate(blocks) if block.mean() > 140)


def encode(
    path: Path,
    codec: str = "libx264",
    b_frames: int = 2,
    count: int = COUNT,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    pixels: str = "yuv420p",
    rotation: int | None = None,
    mirrored: bool = False,
    times: Sequence[int] | None = None,
    tag: str = "",
    faststart: bool = True,
    rate: int = 24,
) -> Path:
    """A video of numbered frames; `times` are in 1/rate s. MP4 files have their index in front, but for `faststart`."""
    options = {"movflags": "faststart"} if faststart and path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        stream.codec_context.thread_count, stream.codec_context.gop_size = 1, 12
        if codec != "mjpeg":
            stream.codec_context.max_b_frames = b_frames
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirrored)
        if tag:
            stream.metadata["rotate"] = tag
        stream.codec_context.time_base = Fraction(1, rate)
        container.start_encoding()
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(index, *size), "rgb24")
            frame.pts, frame.time_base = times[index] if times else index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def oracle(path: Path) -> list[np.ndarray]:
    """All frames by PyAV used directly, from the first to the last, converted to RGB by its filters."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        frames = list(container.decode(stream))
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frames[0].width, height=frames[0].height, format=frames[0].format, time_base=Fraction(1, 24)
        )
        graph.link_nodes(source, graph.add("scale"), graph.add("format", "rgb24"), graph.add("buffersink")).configure()
        found = []
        for frame in frames:
            graph.push(frame)
            found.append(graph.pull().to_ndarray())
    return found


def cut(share: float, **how: object) -> Maker:
    def make(path: Path) -> None:
        whole = encode(path, **how).read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])

    return make


def zeros(start: float, end: float, **how: object) -> Maker:
    def make(path: Path) -> None:
        damaged = bytearray(encode(path, **how).read_bytes())
        first, last = int(len(damaged) * start), int(len(damaged) * end)
        damaged[first:last] = bytes(last - first)
        path.write_bytes(damaged)

    return make


def patched(find: bytes, offset: int, value: bytes, **how: object) -> Maker:
    """`value` written `offset` bytes from the first `find`."""

    def make(path: Path) -> None:
        patched = bytearray(encode(path, **how).read_bytes())
        place = patched.index(find) + offset
        patched[place : place + len(value)] = value
        path.write_bytes(patched)

    return make


def longer(find: bytes, offset: int, order: str, by: int, **how: object) -> Maker:
    """The four-byte length `offset` bytes from `find` made longer."""

    def make(path: Path) -> None:
        patched = bytearray(encode(path, **how).read_bytes())
        place = patched.index(find) + offset
        length = int.from_bytes(patched[place : place + 4], order) + by
        patched[place : place + 4] = length.to_bytes(4, order)
        path.write_bytes(patched)

    return make


def encoded(**how: object) -> Maker:
    return lambda path: encode(path, **how)


def holding(content: bytes) -> Maker:
    return lambda path: path.write_bytes(content)


def followed(content: bytes, **how: object) -> Maker:
    return lambda path: path.write_bytes(encode(path, **how).read_bytes() + content)


def disguised(suffix: str, **how: object) -> Maker:
    """A video of another container than its name says."""
    return lambda path: shutil.move(encode(path.with_name(f"other{suffix}"), **how), path)


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())


def two_streams(path: Path) -> None:
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=24) for _ in range(2)]
        for stream, (height, width) in zip(streams, ((64, 96), (HEIGHT, WIDTH)), strict=True):
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(COUNT):
            for stream in streams:
                image = numbered(index if stream is streams[1] else COUNT - index, stream.height, stream.width)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        for stream in streams:
            container.mux(stream.encode())


def lost_packet(number: int, suffix: str, **how: object) -> Maker:
    """Muxed again without one packet."""

    def make(path: Path) -> None:
        whole = encode(path.with_name(f"whole{suffix}"), **how)
        with av.open(str(whole)) as old, av.open(str(path), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for place, packet in enumerate(old.demux(video=0)):
                if packet.dts is not None and place != number:
                    packet.stream = stream
                    new.mux(packet)

    return make


def two_sizes(path: Path) -> None:
    """Two sizes in one elementary stream."""
    parts = [
        encode(path.with_name(f"part{n}.h264"), size=size, count=12) for n, size in enumerate(((48, 64), (64, 96)))
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


def images(change: Maker = lambda folder: None, count: int = IMAGES) -> Maker:
    """A folder of numbered PNG files."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for index in range(count):
            cv2.imwrite(str(folder / f"{index + 1:05d}.png"), cv2.cvtColor(numbered(index), cv2.COLOR_RGB2BGR))
        change(folder)

    return make


def read_images(folder: Path) -> list[np.ndarray]:
    """All PNG files of a folder by PyAV used directly; grey becomes RGB and transparency is dropped."""
    found = []
    for path in sorted(folder.glob("*.png")):
        with av.open(str(path)) as container:
            found.append(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    return found


def third(image: np.ndarray) -> Maker:
    return lambda folder: cv2.imwrite(str(folder / "00003.png"), image)


def damaged_third(share: float) -> Maker:
    def change(folder: Path) -> None:
        path = folder / "00003.png"
        whole = path.read_bytes()
        kept = whole[: int(len(whole) * share)]
        path.write_bytes(kept if share < 0.5 else kept + bytes(50) + whole[len(kept) + 50 :])

    return change


def renamed(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        path.rename(folder / f"frame_{path.name}")
