"""Decoding: real files, the real decoder, real child processes and real signals."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import pytest
import videos
from hypothesis import given
from hypothesis import strategies as st
from videos import numbered, shown

from data import datasets
from extractors.video import decoder_worker
from extractors.video.decoder import Decoder, clip_indices
from extractors.video.failures import DecoderDied, DecodingTimedOut, FrameOutOfRange, MissingVideo, UnreadableVideo
from extractors.video.ledger import pixel_hash

LIMIT = 60.0
COUNT, HEIGHT, WIDTH = 40, 48, 64
# decord and PyAV bring two builds of FFmpeg; here they agree exactly, but conversion to RGB may round differently.
LEVELS = 2


def write_video(path: Path, codec: str, b_frames: int, audio: bool = False) -> Path:
    """A video of COUNT numbered frames; MP4 files have their index in front, as files for the web do."""
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 12, b_frames
        sound = container.add_stream("aac", rate=8000) if audio else None
        for index in range(COUNT):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(index), "rgb24")))
        container.mux(stream.encode())
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 8000
            container.mux(sound.encode(silence))
            container.mux(sound.encode())
    return path


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """One decoder for the tests that do not kill it."""
    with Decoder() as made:
        yield made


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An H.264 file with B frames."""
    return write_video(tmp_path_factory.mktemp("video") / "-clip_.mp4", "libx264", 2)


def test_a_clip_is_clamped_at_the_ends() -> None:
    assert clip_indices(20, 16, 40) == tuple(range(12, 28))
    assert clip_indices(1, 4, 40) == (0, 0, 1, 2)
    assert clip_indices(39, 4, 40) == (37, 38, 39, 39)
    assert clip_indices(0, 4, 1) == (0, 0, 0, 0)
    with pytest.raises(FrameOutOfRange, match="labelled frame 41, but the video has 40 frames"):
        clip_indices(40, 16, 40)


@given(count=st.integers(1, 60), length=st.integers(1, 20), data=st.data())
def test_a_clip_has_its_length_and_the_labelled_frame_in_its_middle(
    count: int, length: int, data: st.DataObject
) -> None:
    labelled = data.draw(st.integers(0, count - 1))
    clip = clip_indices(labelled, length, count)
    assert len(clip) == length
    assert clip[length // 2] == labelled
    assert list(clip) == sorted(clip)
    assert clip[0] >= 0 and clip[-1] < count


@pytest.mark.parametrize(
    ("name", "codec", "b_frames", "audio"),
    [
        ("h264.mp4", "libx264", 2, False),
        ("sound.mp4", "libx264", 0, True),
        ("mpeg4.mp4", "mpeg4", 2, False),
        ("xvid.avi", "mpeg4", 2, False),
        ("plain.avi", "mpeg4", 0, False),
    ],
)
def test_wanted_frames_come_in_their_order_and_equal_pyavs(
    tmp_path: Path, decoder: Decoder, name: str, codec: str, b_frames: int, audio: bool
) -> None:
    path = write_video(tmp_path / name, codec, b_frames, audio)
    wanted = [13, 0, 39, 13, 14, 3]
    decoded = decoder.clips(path, wanted, LIMIT)
    assert decoded.count == COUNT
    assert [shown(frame) for frame in decoded.frames] == wanted
    with av.open(str(path)) as container:
        reference = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for frame, index in zip(decoded.frames, wanted, strict=True):
        assert np.abs(frame.astype(int) - reference[index]).max() <= LEVELS
    assert decoded.pixels == tuple(pixel_hash(frame) for frame in decoded.frames)


def test_times_are_those_of_the_container(tmp_path: Path, decoder: Decoder) -> None:
    times = [index * (index + 1) // 2 for index in range(videos.COUNT)]
    path = videos.encode(tmp_path / "uneven.mp4", times=times)
    decoded = decoder.clips(path, [5, 0, 23, 5], LIMIT)
    np.testing.assert_allclose(decoded.seconds, np.array([15, 0, 276, 15]) / 24, rtol=1e-12)


def test_times_are_unknown_where_there_are_none(tmp_path: Path, decoder: Decoder) -> None:
    too_fast = videos.encode(tmp_path / "ms.mkv", rate=4000)  # Matroska counts milliseconds: four frames each
    videos.images()(tmp_path / "images")
    for path in (too_fast, tmp_path / "images"):
        decoded = decoder.clips(path, [2, 1], LIMIT)
        assert [shown(frame) for frame in decoded.frames] == [2, 1]
        assert decoded.seconds.shape == (2,) and np.isnan(decoded.seconds).all()


def test_no_wanted_frames_still_count_the_video(decoder: Decoder, video: Path) -> None:
    decoded = decoder.clips(video, [], LIMIT)
    assert (decoded.frames.shape, decoded.count) == ((0, HEIGHT, WIDTH, 3), COUNT)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.995])
@pytest.mark.parametrize(("name", "codec"), [("cut.mp4", "libx264"), ("cut.avi", "mpeg4")])
def test_a_file_that_is_cut_short_is_unreadable_wherever_its_wanted_frames_lie(
    tmp_path: Path, decoder: Decoder, share: float, name: str, codec: str
) -> None:
    path = write_video(tmp_path / name, codec, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UnreadableVideo, match=r"frames decode, and \d+ bytes are missing"):
        decoder.clips(path, [0], LIMIT)


def test_the_message_says_how_many_frames_were_found_and_expected(
    tmp_path: Path, decoder: Decoder, video: Path
) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(video.read_bytes()[: int(video.stat().st_size * 0.9)])
    with pytest.raises(UnreadableVideo, match=r"of 40 declared frames decode.*exclude"):
        decoder.clips(path, [0], LIMIT)


@pytest.mark.parametrize("name", ["zeros.mp4", "zeros.avi"])
def test_a_download_that_was_preallocated_and_broke_off_is_unreadable(
    tmp_path: Path, decoder: Decoder, name: str
) -> None:
    path = write_video(tmp_path / name, "libx264" if name.endswith("mp4") else "mpeg4", 2)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10].ljust(len(whole), b"\0"))
    with pytest.raises(UnreadableVideo, match="declared frames decode"):
        decoder.clips(path, range(COUNT), LIMIT)


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(5000)])
def test_a_file_that_is_no_video_is_unreadable(tmp_path: Path, decoder: Decoder, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableVideo, match=r"clip\.mp4"):
        decoder.clips(path, [0], LIMIT)


def test_random_damage_ends_in_frames_or_a_refusal(tmp_path: Path, decoder: Decoder, video: Path) -> None:
    whole, generator = video.read_bytes(), np.random.default_rng(7)
    path, refused = tmp_path / "damaged.mp4", 0
    for _ in range(20):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), 40):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            assert decoder.clips(path, range(COUNT), LIMIT).count == COUNT
        except (UnreadableVideo, FrameOutOfRange):  # or with fewer frames, where an index is damaged
            refused += 1
    assert refused >= 15  # a changed pixel may pass unseen: the formats have no checksums


def test_a_sound_file_is_unreadable(tmp_path: Path, decoder: Decoder) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(UnreadableVideo, match="no video stream"):
        decoder.clips(path, [0], LIMIT)


def test_a_child_that_answers_is_kept_after_an_error(tmp_path: Path, decoder: Decoder, video: Path) -> None:
    decoder.clips(video, [0], LIMIT)
    child = decoder.process_id
    with pytest.raises(FrameOutOfRange, match="frame 41 is wanted, but the video has 40 frames"):
        decoder.clips(video, [0, 40], LIMIT)
    with pytest.raises(FrameOutOfRange, match="frame index -1"):
        decoder.clips(video, [-1], LIMIT)
    (tmp_path / "none.mp4").write_bytes(b"no video")
    with pytest.raises(UnreadableVideo):
        decoder.clips(tmp_path / "none.mp4", [0], LIMIT)
    assert shown(decoder.clips(video, [39], LIMIT).frames[0]) == 39
    assert decoder.process_id == child


def test_a_missing_video_is_an_error(tmp_path: Path, decoder: Decoder) -> None:
    with pytest.raises(MissingVideo, match=r"absent\.mp4"):
        decoder.clips(tmp_path / "absent.mp4", [0], LIMIT)


def test_a_decoder_that_hangs_is_killed_at_the_limit_and_started_anew(video: Path) -> None:
    with Decoder() as decoder:
        decoder.clips(video, [0], LIMIT)
        hanging = decoder.process_id
        assert hanging is not None
        os.kill(hanging, signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(DecodingTimedOut, match=r"not decoded within 0\.5 s.*frames\.limit_seconds"):
            decoder.clips(video, [0], 0.5)
        assert 0.4 < time.monotonic() - begin < 5
        assert not psutil.pid_exists(hanging)
        assert shown(decoder.clips(video, [7], LIMIT).frames[0]) == 7
        assert decoder.process_id != hanging


def ended_in(decoder: Decoder, deadly: signal.Signals) -> threading.Timer:
    """Stops the child and ends it by a signal a little later."""
    child = decoder.process_id
    assert child is not None
    os.kill(child, signal.SIGSTOP)

    def end() -> None:
        os.kill(child, deadly)
        os.kill(child, signal.SIGCONT)

    timer = threading.Timer(0.3, end)
    timer.start()
    return timer


def test_a_decoder_that_is_killed_is_reported_with_its_signal(video: Path) -> None:
    with Decoder() as decoder:
        decoder.clips(video, [0], LIMIT)
        timer = ended_in(decoder, signal.SIGKILL)
        with pytest.raises(DecoderDied, match="signal SIGKILL"):
            decoder.clips(video, [0], LIMIT)
        timer.join()
        assert shown(decoder.clips(video, [7], LIMIT).frames[0]) == 7


def test_one_crash_is_chance_and_the_video_is_read_by_a_new_decoder(video: Path) -> None:
    with Decoder() as decoder:
        decoder.clips(video, [0], LIMIT)
        crashing = decoder.process_id
        timer = ended_in(decoder, signal.SIGSEGV)
        assert shown(decoder.clips(video, [7], LIMIT).frames[0]) == 7
        timer.join()
        assert decoder.process_id != crashing


def test_a_video_on_which_two_decoders_crash_is_unreadable(tmp_path: Path) -> None:
    path = videos.encode(tmp_path / "long.avi", "mpeg4", count=1500)
    killed: list[int] = []

    def crash(decoder: Decoder) -> None:
        """Whatever child has the video open."""
        while len(killed) < 2:
            child = decoder.process_id
            if child is not None and child not in killed and str(path) in opened(child):
                os.kill(child, signal.SIGSEGV)
                killed.append(child)

    with Decoder() as decoder:
        thread = threading.Thread(target=crash, args=(decoder,), daemon=True)
        thread.start()
        with pytest.raises(UnreadableVideo, match=r"long\.avi: the decoder crashed on it twice .SIGSEGV"):
            decoder.clips(path, [0], LIMIT)
        thread.join(LIMIT)
    assert len(set(killed)) == 2


def opened(process: int) -> set[str]:
    """Paths that a process has open."""
    try:
        return {str(entry.readlink()) for entry in Path(f"/proc/{process}/fd").iterdir()}
    except OSError:  # one was closed meanwhile
        return set()


def test_a_hanging_decoder_without_a_parent_is_ended_by_its_alarm(tmp_path: Path) -> None:
    path = tmp_path / "nobody_writes.mp4"
    os.mkfifo(path)
    request = {
        "path": str(path),
        "wanted": [0],
        "with_pyav": False,
        "limit_seconds": 0.2 - decoder_worker.GRACE_SECONDS,
    }
    command = [sys.executable, "-m", decoder_worker.__name__]
    pipe, root = subprocess.PIPE, Path(decoder_worker.__file__).parents[2]
    child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=root)
    child.communicate(json.dumps(request).encode() + b"\n", timeout=60)
    assert child.returncode == -signal.SIGALRM


def test_the_child_ends_with_a_parent_that_is_killed(video: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from extractors.video.decoder import Decoder\n"
        "decoder = Decoder(); decoder.clips(Path(sys.argv[1]), [0], 60.0); print(decoder.process_id, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(decoder_worker.__file__).parents[2]
    parent = subprocess.run([sys.executable, "-c", script, str(video)], capture_output=True, cwd=root, timeout=60)
    assert parent.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while psutil.pid_exists(child := int(parent.stdout)) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_leaving_the_context_ends_the_child(video: Path) -> None:
    with Decoder() as decoder:
        assert decoder.process_id is None
        decoder.clips(video, [0], LIMIT)
        child = decoder.process_id
    assert child is not None and not psutil.pid_exists(child)


def test_a_folder_of_images_is_read_losslessly_and_without_a_child(tmp_path: Path) -> None:
    folder = tmp_path / "A_(B)!_@2+"
    videos.images(count=12)(folder)
    with Decoder() as decoder:
        decoded = decoder.clips(folder, [11, 0, 11], LIMIT)
        assert decoder.process_id is None
    assert decoded.count == 12
    np.testing.assert_array_equal(decoded.frames, np.stack([numbered(11), numbered(0), numbered(11)]))


def test_a_damaged_folder_of_images_is_unreadable(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    videos.images(count=5)(folder)
    with Decoder() as decoder:
        with pytest.raises(FrameOutOfRange, match="frame 6 is wanted, but the video has 5 frames"):
            decoder.clips(folder, [5], LIMIT)
        cut = folder / "00002.png"
        for kept in (0, 50, cut.stat().st_size - 20):
            cut.write_bytes(cut.read_bytes()[:kept])
            with pytest.raises(UnreadableVideo, match=r"00002\.png: not a whole PNG"):
                decoder.clips(folder, [1], LIMIT)
        cv2.imwrite(str(cut), np.zeros((3, 4, 3), np.uint8))
        with pytest.raises(UnreadableVideo, match=r"00002\.png: shape \(3, 4, 3\)"):
            decoder.clips(folder, [1], LIMIT)
        cut.unlink()
        with pytest.raises(UnreadableVideo, match=r"4 images, but no 00002\.png"):
            decoder.clips(folder, [0], LIMIT)


@pytest.mark.parametrize(("kind", "step"), [("a2d", 4), ("jhmdb", 8)])
def test_real_clips_equal_pyavs_decode(shared: Path, decoder: Decoder, kind: str, step: int) -> None:
    for video in datasets.read(kind, shared / "real" / kind, "test", {}).videos[::step]:
        wanted = [frame.number - 1 for frame in video.labelled]
        decoded = decoder.clips(Path(video.path), wanted, LIMIT)
        assert decoded.count == video.frames  # though the AVI files of J-HMDB declare more
        with av.open(video.path) as container:
            shots = list(container.decode(video=0))
        np.testing.assert_allclose(decoded.seconds, [shots[index].time for index in wanted])
        reference = [shot.to_ndarray(format="rgb24") for shot in shots]
        decoder.verify(Path(video.path), wanted, decoded.frames, LIMIT)
        assert len(reference) == decoded.count
        for frame, index in zip(decoded.frames, wanted, strict=True):
            assert np.abs(frame.astype(int) - reference[index]).max() <= LEVELS
