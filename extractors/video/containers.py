"""Checks of the container structure of AVI and MP4 files for completeness, before anything is decoded."""

from pathlib import Path
from typing import BinaryIO

from data.wording import counted

_SLACK_BYTES = 8  # some writers include the RIFF header in the length
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def damage(path: Path) -> str:
    """Return a description of what an AVI or MP4 file lacks; "" for complete files and other containers."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"AVI ":
            end = _riff_end(file)
            return _missing(end - size, _SLACK_BYTES) or _unnamed_chunk(file, 12, min(end, size))
        if head[4:8] in _BOXES:
            return _missing(_boxes_end(file, size) - size, 0)
    return ""


def _missing(missing_bytes: int, slack_bytes: int) -> str:
    return f"{counted(missing_bytes, 'byte is', 'bytes are')} missing at its end" if missing_bytes > slack_bytes else ""


def _riff_end(file: BinaryIO) -> int:
    end = 0
    while True:  # files above 1 GiB consist of several RIFF chunks
        file.seek(end)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # 0 or 0xFFFFFFFF: the writer could not set the length
            return end
        end += 8 + length + length % 2


def _unnamed_chunk(file: BinaryIO, start: int, end: int) -> str:
    """Return a description of the first position in an AVI file where a chunk should begin but does not; or ""."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(12)
        if head[:4] in (b"RIFF", b"LIST") and head[8:] in (b"AVIX", b"movi", b"rec "):
            start += 12  # a list: its chunks follow
            continue
        if not all(0x20 <= byte < 0x7F for byte in head[:4]):
            return f"no chunk begins at byte {start}, where one should"
        length = int.from_bytes(head[4:8], "little")
        start += 8 + length + length % 2
    return ""


def _boxes_end(file: BinaryIO, size: int) -> int:
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(16)
        if not all(0x20 <= byte < 0x7F for byte in head[4:8]):  # bytes after the last box, which players ignore
            return size
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: the box ends with the file; other values are invalid
            return size
        end += length
    return end
