"""A generated dataset in the layout of A2D-Sentences, with which everything runs without a download.

It has one file more than A2D: `text_annotations/groups.csv` gives the group of each sentence
(see `data.miniature.scenes.Sentence`).
"""

import csv
import io
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import av
import h5py
import numpy as np
from jaxtyping import UInt8

from data.miniature.drawing import pictures
from data.miniature.scenes import VALID_ACTIONS, BadSpec, Scene, Spec, missed_scene, scenes

__all__ = ["BadSpec", "FolderNotEmpty", "Spec", "missed_scene", "scenes", "write"]

FRAMES_PER_SECOND = 24
QUALITY = 18  # x264's constant rate factor: near lossless
X264 = "threads=1:lookahead_threads=1:rc-lookahead=0:mbtree=0"  # one thread makes the bytes reproducible
ACTIONS = ("climbing", "crawling", "eating", "flying", "jumping", "rolling", "running", "walking", "none")
ACTORS = tuple(VALID_ACTIONS)


class FolderNotEmpty(FileExistsError):
    """Raised if the folder for the miniature is not empty."""


def write(root: Path, spec: Spec, progress: Callable[[int, int], None] | None = None, workers: int = 2) -> None:
    """Write the dataset into `root`, which must be empty or not exist; call `progress(done, total)` after each clip.

    The bytes depend only on the spec and the versions of x264, OpenCV and HDF5, not on `workers`, the number of
    processes. The text files are written last, so an incomplete dataset cannot be read. Raises FolderNotEmpty."""
    root = Path(root)
    if root.exists() and any(root.iterdir()):
        raise FolderNotEmpty(f"miniature: {root} is not empty. Give an empty folder, or remove it and write again.")
    found, missed = scenes(spec), missed_scene(spec)
    (root / "Release" / "clips320H").mkdir(parents=True)
    instances = root / "text_annotations" / "a2d_annotation_with_instances"
    instances.mkdir(parents=True)
    drawn = [*found, missed]
    for done, _ in enumerate(_each(partial(_write_clip, root, spec), drawn, workers), start=1):
        if progress is not None:
            progress(done, len(drawn))
    text = root / "text_annotations"
    sentences = [(scene.id, sentence) for scene in found for sentence in scene.sentences]
    _write_rows(text / "groups.csv", [("video_id", "instance_id", "group"), *_groups(found)])
    _write_text(text / "a2d_missed_videos.txt", missed.id)
    annotation = [(video, sentence.instance, sentence.text) for video, sentence in sentences]
    _write_rows(text / "a2d_annotation.txt", [("video_id", "instance_id", "query"), *annotation])
    _write_rows(root / "Release" / "videoset.csv", [_listed(scene, spec) for scene in drawn])


def _each(work: Callable[[Scene], None], drawn: Sequence[Scene], workers: int) -> Iterable[None]:
    if workers < 2 or len(drawn) < 16:  # starting processes takes about a second
        return map(work, drawn)
    return _in_processes(work, drawn, workers)


def _in_processes(work: Callable[[Scene], None], drawn: Sequence[Scene], workers: int) -> Iterable[None]:
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, drawn, chunksize=8)


# ---- one clip


def _write_clip(root: Path, spec: Spec, scene: Scene) -> None:
    images = []
    folder = root / "text_annotations" / "a2d_annotation_with_instances" / scene.id
    for number, picture in enumerate(pictures(scene, spec.size), start=1):
        images.append(picture.image)
        if scene.sentences and number in spec.labelled:
            folder.mkdir(exist_ok=True)
            _write_instances(folder / f"{number:05d}.h5", scene, picture.masks)
    _encode(root / "Release" / "clips320H" / f"{scene.id}.mp4", images, spec.size)


def _encode(path: Path, images: Iterable[UInt8[np.ndarray, "h w 3"]], size: int) -> None:
    """Encode the frames as H.264 with one thread, so that the bytes are reproducible."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(QUALITY), "preset": "veryfast", "x264-params": X264}
        stream.codec_context.thread_count = 1
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def _write_instances(path: Path, scene: Scene, masks: UInt8[np.ndarray, "n h w"]) -> None:
    """Write one labelled frame, with the reversed axes of MATLAB's files, in order of the instance numbers."""
    order = sorted(range(len(scene.actors)), key=lambda i: scene.actors[i].instance)
    actors, masks = [scene.actors[i] for i in order], masks[order]
    labels = np.array([_label(actor.kind, actor.action) for actor in actors])
    semantic = (masks * labels[:, None, None].astype(np.uint8)).sum(0, dtype=np.uint8)
    turned = masks.transpose(0, 2, 1)
    with h5py.File(path, "w", libver="earliest") as file:
        for name, values in (
            ("reMask", turned if len(actors) > 1 else turned[0]),
            ("instance", np.array([actor.instance for actor in actors], dtype=np.int64)),
            ("reBBox", np.array([_box(mask) for mask in masks], dtype=np.float64).T),
            ("id", labels[None].astype(np.float64)),
            ("reS_id", semantic.T),
        ):
            packed = (
                {"compression": "gzip", "compression_opts": 1} if values.ndim > 1 and values.dtype == np.uint8 else {}
            )
            file.create_dataset(name, data=np.ascontiguousarray(values), track_times=False, **packed)


def _label(kind: str, action: str) -> int:
    return 10 * (ACTORS.index(kind) + 1) + ACTIONS.index(action) + 1


def _box(mask: UInt8[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """Return the bounding box of a mask: x1, y1, x2, y2; x2 and y2 are exclusive; zeros if the mask is empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# ---- the text files


def _listed(scene: Scene, spec: Spec) -> tuple[object, ...]:
    """Return a row of videoset.csv.

    As in A2D, its label has the action `none` only if no actor has another action."""
    doing = [actor for actor in scene.actors if actor.action != "none"] or list(scene.actors)
    end = f"00:00:{-(-spec.frames // FRAMES_PER_SECOND):02d}"
    label = _label(doing[0].kind, doing[0].action)
    usage = 0 if scene.split == "train" else 1
    return scene.id, label, "00:00:00", end, spec.size, spec.size, spec.frames, spec.labels, usage


def _groups(found: Iterable[Scene]) -> list[tuple[str, int, str]]:
    rows = {(scene.id, sentence.instance): sentence.group for scene in found for sentence in scene.sentences}
    return [(video, instance, group) for (video, instance), group in rows.items()]


def _write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    _write_text(path, text.getvalue())


def _write_text(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
