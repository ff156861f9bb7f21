"""Videos that are folders of pictures: which files are their frames, and in which order."""

from pathlib import Path

from data.readers.annotations import MalformedAnnotations, names
from data.wording import counted

SUFFIXES = (".png", ".jpg", ".jpeg")


def pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder in the order of the frames; other files are ignored.

    They are ordered by number if all names are numbers, else by name. Five-digit names of PNG files, like those of
    J-HMDB, are the numbers of the frames, so none may be missing. Raises MalformedAnnotations."""
    found = [folder / name for name in names(folder) if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    stems = [path.stem for path in found]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1} if len(set(stems)) < len(stems) else ()):
        raise MalformedAnnotations(f"{folder}: two pictures are named {twice[0]}; expected one a frame. Remove one.")
    if not all(stem.isascii() and stem.isdigit() for stem in stems):
        return found
    found.sort(key=lambda path: (int(path.stem), path.name))
    if found and all(path.suffix == ".png" and len(path.stem) == 5 for path in found):
        first = min(1, int(found[0].stem))
        for number, path in enumerate(found, start=first):
            if int(path.stem) != number:
                raise MalformedAnnotations(
                    f"{folder}: {counted(len(found), 'image')}, but no {number:05d}.png. Unpack it again."
                )
    return found
