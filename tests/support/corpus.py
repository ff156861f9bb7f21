"""The corpus: odd and damaged videos, and what must come of each. docs/decoding.md holds the same table."""

from dataclasses import dataclass

import cv2
import numpy as np
import videos
from videos import COUNT, HEIGHT, IMAGES, WIDTH, Maker, numbered


@dataclass(frozen=True)
class Case:
    """One file of the corpus, made at a path. `frames` of it are read, or it is refused by `error`."""

    name: str
    what: str
    make: Maker
    frames: int = 0
    asked: int = COUNT
    error: str = ""
    says: str = ""

    @property
    def outcome(self) -> str:
        return f"refused: {self.error}" if self.error else f"read: {self.frames}"


XVID = {"codec": "mpeg4", "b_frames": 2}
PLAIN = {"codec": "mpeg4", "b_frames": 0}
UNREADABLE = "UnreadableVideo"
MISSING = r"\d+ bytes are missing"
GREY = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)
DEEP = GREY.astype(np.uint16)[:, :, None].repeat(3, axis=2) * 257
CLEAR = np.dstack([numbered(2)[:, :, ::-1], GREY])
JPEG = cv2.imencode(".jpg", numbered(0))[1].tobytes()

CASES = (
    # whole
    Case("h264.mp4", "H.264 with B frames", videos.encoded(), COUNT),
    Case("h264_index_last.mp4", "its index at the end", videos.encoded(faststart=False), COUNT),
    Case("h264.mkv", "H.264 in Matroska", videos.encoded(), COUNT),
    Case("h264.avi", "H.264 with B frames in AVI", videos.encoded(), COUNT),
    Case("xvid.avi", "MPEG-4 with B frames in AVI", videos.encoded(**XVID), COUNT),
    Case("xvid.mp4", "MPEG-4 with B frames in MP4", videos.encoded(**XVID), COUNT),
    Case("mpeg4.avi", "MPEG-4 without B frames, as J-HMDB's", videos.encoded(**PLAIN), COUNT),
    Case("mjpeg.avi", "Motion JPEG", videos.encoded(codec="mjpeg", pixels="yuvj420p"), COUNT),
    Case("vp9.webm", "VP9 in WebM", videos.encoded(codec="libvpx-vp9"), COUNT),
    Case(
        "uneven_times.mp4", "variable frame rate", videos.encoded(times=[n * (n + 1) // 2 for n in range(COUNT)]), COUNT
    ),
    Case("portrait.mp4", "higher than wide", videos.encoded(size=(96, 64)), COUNT),
    Case("narrow.mp4", "48 pixels wide: decord takes padding for a channel", videos.encoded(size=(64, 48)), COUNT),
    Case("odd_size.mp4", "63 x 47 pixels", videos.encoded(**PLAIN, size=(47, 63)), COUNT),
    Case(
        "odd_size_444.mp4",
        "63 x 47 pixels, colours in full resolution",
        videos.encoded(size=(47, 63), pixels="yuv444p"),
        COUNT,
    ),
    Case("ten_bits.mp4", "10 bits a channel", videos.encoded(pixels="yuv420p10le"), COUNT),
    Case("grey.mp4", "luminance alone", videos.encoded(pixels="gray"), COUNT),
    Case("one_frame.mp4", "one frame", videos.encoded(count=1), 1),
    Case("one_frame.avi", "one frame", videos.encoded(**PLAIN, count=1), 1),
    Case("two_streams.mp4", "two video streams: the larger one counts", videos.two_streams, COUNT),
    # oddly wrapped, yet whole
    Case("avi_in_disguise.mp4", "an AVI file by the wrong name", videos.disguised(".avi", **XVID), COUNT),
    Case("mp4_in_disguise.avi", "an MP4 file by the wrong name", videos.disguised(".mp4"), COUNT),
    Case("trailing.mp4", "500 bytes behind the end", videos.followed(bytes(range(7, 107)) * 5), COUNT),
    Case("trailing.avi", "500 bytes behind the end", videos.followed(bytes(range(7, 107)) * 5, **XVID), COUNT),
    Case("open_end.mp4", "media data declared to go on to the end", videos.patched(b"mdat", -4, bytes(4)), COUNT),
    Case(
        "no_length.avi",
        "a writer that could not go back: length 0",
        videos.patched(b"RIFF", 4, bytes(4), **XVID),
        COUNT,
    ),
    Case(
        "declares_more.avi", "a header that declares more frames", videos.patched(b"avih", 24, b"\x30", **XVID), COUNT
    ),
    Case("lost_packet.mp4", "muxed again without packet 20", videos.lost_packet(20, ".mp4"), COUNT - 1),
    # cut off
    *(
        Case(
            f"cut_at_{share * 100:g}.mp4",
            f"{share:.1%} of an MP4 file",
            videos.cut(share),
            error=UNREADABLE,
            says=MISSING,
        )
        for share in (0.02, 0.2, 0.4, 0.6, 0.8, 0.95, 0.999)
    ),
    *(
        Case(
            f"cut_at_{share * 100:g}.avi",
            f"{share:.1%} of an AVI file",
            videos.cut(share, **XVID),
            error=UNREADABLE,
            says=MISSING,
        )
        for share in (0.02, 0.2, 0.4, 0.6, 0.8, 0.95, 0.999)
    ),
    Case(
        "cut_index.mp4",
        "its index at the end, cut off",
        videos.cut(0.9, faststart=False),
        error=UNREADABLE,
        says="cannot be opened|missing",
    ),
    Case(
        "cut.mkv",
        "60 % of a Matroska file: fewer frames",
        videos.cut(0.6),
        error="FrameOutOfRange",
        says="but the video has",
    ),
    # overwritten, or never written
    Case(
        "zeros_early.mp4",
        "zeros from 30 to 35 %",
        videos.zeros(0.3, 0.35),
        error=UNREADABLE,
        says="frames decode, then",
    ),
    Case(
        "zeros_middle.mp4",
        "zeros from 50 to 70 %",
        videos.zeros(0.5, 0.7),
        error=UNREADABLE,
        says="frames decode, then",
    ),
    Case(
        "zeros_late.mp4", "zeros from 85 to 90 %", videos.zeros(0.85, 0.9), error=UNREADABLE, says="frames decode, then"
    ),
    Case(
        "zeros_from_60.mp4",
        "zeros from 60 % on: a download that broke off",
        videos.zeros(0.6, 1),
        error=UNREADABLE,
        says="frames decode, then",
    ),
    Case("zeros_early.avi", "zeros from 30 to 35 %, inside a frame", videos.zeros(0.3, 0.35, **XVID), COUNT),
    Case(
        "zeros_middle.avi",
        "zeros from 50 to 70 %",
        videos.zeros(0.5, 0.7, **XVID),
        error=UNREADABLE,
        says="no chunk begins",
    ),
    Case(
        "zeros_late.avi",
        "zeros from 85 to 90 %",
        videos.zeros(0.85, 0.9, **XVID),
        error=UNREADABLE,
        says="no chunk begins",
    ),
    Case(
        "zeros_from_60.avi",
        "zeros from 60 % on",
        videos.zeros(0.6, 1, **XVID),
        error=UNREADABLE,
        says="no chunk begins",
    ),
    Case(
        "zeros_middle.mkv",
        "zeros from 50 to 70 %",
        videos.zeros(0.5, 0.7),
        error="FrameOutOfRange",
        says="but the video has",
    ),
    Case(
        "zeros_inside_a_frame.avi",
        "20 zeros inside a frame: no checksum tells",
        videos.patched(b"00dc", 4000, bytes(20), **PLAIN),
        COUNT,
    ),
    # wrongly declared
    Case(
        "data_too_long.mp4",
        "media data declared longer",
        videos.longer(b"mdat", -4, "big", 1000),
        error=UNREADABLE,
        says=MISSING,
    ),
    Case(
        "file_too_long.avi",
        "the file declared longer",
        videos.longer(b"RIFF", 4, "little", 5000, **XVID),
        error=UNREADABLE,
        says=MISSING,
    ),
    Case(
        "unknown_codec.avi",
        "a codec that nobody knows",
        videos.patched(b"strf", 24, b"ZZZZ", **XVID),
        error=UNREADABLE,
        says="no video stream of a known codec",
    ),
    Case(
        "two_sizes.h264",
        "another size from frame 13 on",
        videos.two_sizes,
        error=UNREADABLE,
        says="frame 13 is 64 x 96, but the first is 48 x 64",
    ),
    Case(
        "transport.ts",
        "MPEG transport stream: decord begins with a wrong frame",
        videos.encoded(),
        error=UNREADABLE,
        says="decord fails",
    ),
    # to be shown rotated
    Case(
        "rotated_90.mp4",
        "a display matrix of 90 degrees",
        videos.encoded(rotation=90),
        error=UNREADABLE,
        says="shown rotated",
    ),
    Case(
        "rotated_180.mp4",
        "a display matrix of 180 degrees",
        videos.encoded(rotation=180),
        error=UNREADABLE,
        says="shown rotated",
    ),
    Case(
        "mirrored.mp4",
        "a display matrix that mirrors",
        videos.encoded(rotation=0, mirrored=True),
        error=UNREADABLE,
        says="shown rotated",
    ),
    Case("rotated_90.mkv", "the tag rotate=90", videos.encoded(tag="90"), error=UNREADABLE, says="rotate=90"),
    # no videos
    Case("sound.mp4", "sound alone", videos.sound, error=UNREADABLE, says="no video stream"),
    Case(
        "no_frame.mp4",
        "a video stream without a frame",
        videos.encoded(count=0),
        error=UNREADABLE,
        says="no video stream|no frame decodes",
    ),
    Case("empty.mp4", "an empty file", videos.holding(b""), error=UNREADABLE, says="cannot be opened"),
    Case("text.mp4", "a text file", videos.holding(b"404 Not Found\n" * 40), error=UNREADABLE, says="cannot be opened"),
    Case("zeros.mp4", "zeros alone", videos.holding(bytes(5000)), error=UNREADABLE, says="cannot be opened"),
    Case("empty_folder.mp4", "an empty folder", videos.Path.mkdir, error=UNREADABLE, says="0 images"),
    Case("nothing.mp4", "nothing", lambda path: None, error="MissingVideo", says="no video"),
    # folders of PNG files
    Case("images", "six images", videos.images(), IMAGES, IMAGES),
    Case(
        "images_and_more",
        "another file among them",
        videos.images(lambda folder: (folder / "Thumbs.db").write_bytes(b"x")),
        IMAGES,
        IMAGES,
    ),
    Case("images_one_grey", "one image without colours", videos.images(videos.third(GREY)), IMAGES, IMAGES),
    Case(
        "images_one_clear",
        "one image with transparency, which is ignored",
        videos.images(videos.third(CLEAR)),
        IMAGES,
        IMAGES,
    ),
    Case(
        "images_gap",
        "no third image",
        videos.images(lambda folder: (folder / "00003.png").unlink()),
        asked=IMAGES,
        error=UNREADABLE,
        says="no 00003",
    ),
    Case(
        "images_from_2",
        "no first image",
        videos.images(lambda folder: (folder / "00001.png").unlink()),
        asked=IMAGES,
        error=UNREADABLE,
        says="no 00001",
    ),
    Case(
        "images_misnamed",
        "frame_00001.png and on, in the order of their names",
        videos.images(videos.renamed),
        IMAGES,
        IMAGES,
    ),
    Case(
        "images_one_cut",
        "the third image cut off",
        videos.images(videos.damaged_third(0.4)),
        asked=IMAGES,
        error=UNREADABLE,
        says="its end is missing",
    ),
    Case(
        "images_one_overwritten",
        "zeros in the third image",
        videos.images(videos.damaged_third(0.6)),
        asked=IMAGES,
        error=UNREADABLE,
        says="checksum",
    ),
    Case(
        "images_one_empty",
        "the third image empty",
        videos.images(lambda folder: (folder / "00003.png").write_bytes(b"")),
        asked=IMAGES,
        error=UNREADABLE,
        says="not a whole PNG",
    ),
    Case(
        "images_one_jpeg",
        "the third image a JPEG",
        videos.images(lambda folder: (folder / "00003.png").write_bytes(JPEG)),
        asked=IMAGES,
        error=UNREADABLE,
        says="not a whole PNG",
    ),
    Case(
        "images_one_deep",
        "the third image with 16 bits a channel",
        videos.images(videos.third(DEEP)),
        asked=IMAGES,
        error=UNREADABLE,
        says="but of 16",
    ),
    Case(
        "images_one_small",
        "the third image smaller",
        videos.images(videos.third(GREY[:32])),
        asked=IMAGES,
        error=UNREADABLE,
        says="shape",
    ),
)
