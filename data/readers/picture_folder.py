"""Videos that are folders of pictures: which files are their frames, and in which order."""

from pathlib import Path

from data.readers.annotations import MalformedAnnotations, names
from data.wording import counted

SUFFIXES = (".png", ".jpg", ".jpeg")


def pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder in the order of the frames. Raises MalformedAnnotations."""
    return [folder / name for name in picture_names(folder)]


def picture_names(folder: Path) -> list[str]:
    """Return the names of the pictures of a folder in the order of the frames; other files are ignored.

    They are ordered by number if all names are numbers, else by name. Five-digit names of PNG files, like those of
    J-HMDB, are the numbers of the frames, so none may be missing. Raises MalformedAnnotations."""
    found = [name for name in names(folder) if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    stems = [stem(name) for name in found]
    if twice := sorted({each for each in stems if stems.count(each) > 1} if len(set(stems)) < len(stems) else ()):
        raise MalformedAnnotations(f"{folder}: two pictures are named {twice[0]}; expected one a frame. Remove one.")
    if not all(each.isascii() and each.isdigit() for each in stems):
        return found
    found.sort(key=lambda name: (int(stem(name)), name))
    if found and all(name.endswith(".png") and len(name) == len("00000.png") for name in found):
        first = min(1, int(stem(found[0])))
        for number, name in enumerate(found, start=first):
            if int(stem(name)) != number:
                raise MalformedAnnotations(
                    f"{folder}: {counted(len(found), 'image')}, but no {number:05d}.png. Unpack it again."
                )
    return found


def stem(name: str) -> str:
    """Return the name of a picture without its ending."""
    return name.rpartition(".")[0]
