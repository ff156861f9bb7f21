"""Changes that users make, to a config, to the raw data of a copy of tiny, or to the code of a copy of the project."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
from commands import Acga

TRAIN, TEST = "0", "1"  # the last column of videoset.csv


@dataclass(frozen=True)
class Place:
    """Where a change is made: a store with everything of tiny, a copy of its raw data, and room for more."""

    store: Path
    root: Path
    folder: Path

    @property
    def text(self) -> Path:
        return self.root / "text_annotations"

    @property
    def videoset(self) -> Path:
        return self.root / "Release" / "videoset.csv"

    def video(self, identity: str) -> Path:
        return self.root / "Release" / "clips320H" / f"{identity}.mp4"

    def masks(self, identity: str) -> Path:
        return self.text / "a2d_annotation_with_instances" / identity

    def spoken(self, split: str) -> list[str]:
        """The ids of a split's videos that have sentences."""
        rows = [line.split(",") for line in self.videoset.read_text().splitlines()]
        said = (self.text / "a2d_annotation.txt").read_text()
        return [row[0] for row in rows if row[-1] == split and f"{row[0]}," in said]


Changed = tuple[Acga, tuple[str, ...]]
"""The command to run then, and its arguments."""
Change = Callable[[Place], Changed]


def key(*overrides: str) -> Change:
    """A key of the config."""
    arguments = tuple(part for override in overrides for part in ("--set", override))
    return lambda place: (Acga(), arguments)


def raw(change: Callable[[Place], None]) -> Change:
    """Something in the raw data."""

    def changed(place: Place) -> Changed:
        change(place)
        return Acga(), ("--set", f"dataset.root={place.root}")

    return changed


def code(module: str) -> Change:
    """A module of the project says something new."""
    return _edited(module, lambda text: text + "\nANOTHER = 1\n")


def described(module: str) -> Change:
    """A module says the same in other words."""
    return _edited(module, lambda text: "# a comment\n" + text.replace('"""', '"""In other words: ', 1))


def _edited(module: str, edit: Callable[[str], str]) -> Change:
    def changed(place: Place) -> Changed:
        copy = Acga.copied(place.folder / "project")
        path = copy.project / module
        path.write_text(edit(path.read_text()))
        return copy, ()

    return changed


def back_again(place: Place) -> Changed:
    """A key changed, run, and changed back."""
    Acga().run(place.store, "--set", "visual.seed=7")
    return Acga(), ()


def sentence(split: str) -> Change:
    def change(place: Place) -> None:
        path = place.text / "a2d_annotation.txt"
        video = place.spoken(split)[0]
        lines = path.read_text().splitlines()
        place_of = next(number for number, line in enumerate(lines) if line.startswith(f"{video},"))
        lines[place_of] += " slowly"
        path.write_text("\n".join(lines) + "\n")

    return raw(change)


def mask(split: str) -> Change:
    def change(place: Place) -> None:
        path = sorted(place.masks(place.spoken(split)[0]).iterdir())[0]
        with h5py.File(path, "r+") as file:
            masks = file["reMask"][...]
            masks[..., :4, :4] = 1 - masks[..., :4, :4]
            file["reMask"][...] = masks

    return raw(change)


def replaced(split: str) -> Change:
    def change(place: Place) -> None:
        first, second, *_ = place.spoken(split)
        shutil.copyfile(place.video(second), place.video(first))

    return raw(change)


def added(split: str) -> Change:
    def change(place: Place) -> None:
        old, new = place.spoken(split)[0], "new-video_1"
        shutil.copyfile(place.video(old), place.video(new))
        shutil.copytree(place.masks(old), place.masks(new))
        for path in (place.videoset, place.text / "a2d_annotation.txt", place.text / "groups.csv"):
            lines = path.read_text().splitlines()
            lines += [line.replace(old, new) for line in lines if line.startswith(f"{old},")]
            path.write_text("\n".join(lines) + "\n")

    return raw(change)


def removed(split: str) -> Change:
    def change(place: Place) -> None:
        old = place.spoken(split)[0]
        place.video(old).unlink()
        shutil.rmtree(place.masks(old))
        for path in (place.videoset, place.text / "a2d_annotation.txt", place.text / "groups.csv"):
            lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{old},")]
            path.write_text("\n".join(lines) + "\n")

    return raw(change)


CHANGES: dict[str, Change] = {
    "`[frames] size`": key("frames.size=96"),
    "`[frames] verify`": key("frames.verify=1.0"),
    "`[masks]`": key("masks.threshold=0.25"),
    "`[flow]`": key("flow.bound=10.0"),
    "`[text]`": key("text.seed=1"),
    "`[visual]`": key("visual.seed=1"),
    "`[pretrain]`": key("pretrain.lr=0.002"),
    "`[model]`": key("model.seed=1"),
    "`[training]`": key("training.lr=0.002"),
    "`[prediction]`": key("prediction.batch=2"),
    "`[metrics]`": key("metrics.resamples=50"),
    "`[report]`": key("report.samples=2"),
    "`[compute]`": key("compute.threads=2"),
    "`[dataset] shards`": key("dataset.shards=1"),
    "`[dataset] absent`": key("dataset.absent=empty"),
    "`[dataset] max_failures`": key("dataset.max_failures=1"),
    "`[dataset] root`, the same files elsewhere": raw(lambda place: None),
    "`[train]`": key("train.split=test"),
    "`[test]`": key("test.split=train"),
    "`[miniature]`": key("miniature.seed=1"),
    "a sentence edited, train": sentence(TRAIN),
    "a sentence edited, test": sentence(TEST),
    "a mask corrected, train": mask(TRAIN),
    "a mask corrected, test": mask(TEST),
    "a video replaced, train": replaced(TRAIN),
    "a video replaced, test": replaced(TEST),
    "a video added, train": added(TRAIN),
    "a video removed, train": removed(TRAIN),
    "a comment or docstring edited": described("data/letterbox.py"),
    "code of the letterbox": code("data/letterbox.py"),
    "code of the flow": code("extractors/video/flow.py"),
    "code of the metrics": code("models/evaluation/metrics.py"),
    "code of the attention": code("models/attention.py"),
    "a key changed and changed back": back_again,
}
"""By the name that the README's tables give them."""
