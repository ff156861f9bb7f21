"""The corpus of odd and damaged videos: each is read, frame for frame as by PyAV, or refused by a named error."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import videos
from commands import PROJECT
from corpus import CASES, PLAIN, XVID, Case

from extractors.video import failures
from extractors.video.decoder import Decoder

LIMIT = 30.0
TABLE = PROJECT / "docs" / "decoding.md"
# decord in a process of its own, without our checks: the frames shown when read one by one, and after a seek.
ALONE = """
import json, sys
sys.modules["nvidia"] = None
sys.path.insert(0, sys.argv[1])
import decord, videos
decord.logging.set_level(decord.logging.QUIET)
reader = lambda: decord.VideoReader(sys.argv[2], num_threads=1)
sequential = reader()
shown = [videos.shown(sequential.next().asnumpy()) for _ in range(len(sequential))]
print(json.dumps([shown, [videos.shown(reader()[index].asnumpy()) for index in range(len(shown))]]))
"""


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def silent() -> None:
    """The oracle reads damaged files, too."""
    av.logging.set_level(av.logging.PANIC)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_of_the_corpus_is_read_as_pyav_reads_it_or_refused_by_name(
    case: Case, tmp_path: Path, decoder: Decoder
) -> None:
    path = tmp_path / case.name
    case.make(path)
    begin = time.monotonic()
    if case.error:
        with pytest.raises(getattr(failures, case.error), match=case.says) as refused:
            decoder.clips(path, range(case.asked), LIMIT)
        assert case.name in str(refused.value)
    else:
        decoded = decoder.clips(path, range(case.frames), LIMIT)
        expected = videos.read_images(path) if path.is_dir() else videos.oracle(path)
        assert decoded.count == len(expected) == case.frames
        np.testing.assert_array_equal(decoded.frames, np.stack(expected))
        assert all(frame.any() for frame in decoded.frames)
        decoder.verify(path, range(case.frames), decoded.frames, LIMIT)
    assert time.monotonic() - begin < LIMIT


def test_the_corpus_is_the_table_of_the_documentation() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \| (.+?) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(case.name, case.what, case.outcome) for case in CASES]
    assert len({case.name for case in CASES}) == len(CASES) >= 40


def alone(path: Path) -> tuple[list[int], list[int]]:
    command = [sys.executable, "-c", ALONE, str(PROJECT / "tests" / "support"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    sequential, after_a_seek = json.loads(done.stdout)
    return sequential, after_a_seek


@pytest.mark.parametrize("name", ["xvid.avi", "xvid.mp4"])
def test_mpeg4_with_b_frames_is_right_from_the_start_and_wrong_after_a_seek(tmp_path: Path, name: str) -> None:
    sequential, after_a_seek = alone(videos.encode(tmp_path / name, **XVID))
    assert sequential == list(range(videos.COUNT))
    assert sum(found != index for index, found in enumerate(after_a_seek)) > videos.COUNT // 2


def test_mpeg4_without_b_frames_is_right_after_a_seek_too(tmp_path: Path) -> None:
    assert alone(videos.encode(tmp_path / "plain.avi", **PLAIN)) == (list(range(videos.COUNT)),) * 2


def test_decord_alone_is_wrong_from_the_first_frame_of_a_transport_stream(tmp_path: Path) -> None:
    sequential, _ = alone(videos.encode(tmp_path / "transport.ts"))
    assert len(sequential) == videos.COUNT and sequential[0] != 0
