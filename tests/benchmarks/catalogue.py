"""A store of A2D's size: 3,782 tiny videos with the real sentences, 60 shards a split, the real graph.

What a catalogue, a plan and a run cost where nothing changed; that ten more videos cost their shards alone; and what
the scheduler adds to a task. Needs the official annotation files beside the project, in ../shared/annotations, and
about ten minutes, nearly all of them to make the store.
"""

import csv
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

import av
import h5py
import numpy as np
from measured import acga, machine

ANNOTATIONS = Path(__file__).resolve().parents[3] / "shared" / "annotations"
VIDEOS, FRAMES, SIZE = 3782, 24, 48
LABELLED = (4, 8, 12)
SHARDS, WORKERS, REPEATS, TEN = 60, 2, 5, 10
SHARDED = ("Frames", "Masks", "VisualFeatures")
SETTINGS = (f"dataset.shards={SHARDS}", "dataset.groups=", "training.epochs=1", "training.batch=32")


def main() -> None:
    """Measure, and print what was found beside what was asked."""
    if not ANNOTATIONS.is_dir():
        sys.exit(f"no official annotation files at {ANNOTATIONS}; nothing measured")
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder) / "A2D", Path(folder) / "store"
        lay_out(root)
        settings = [part for key in (f"dataset.root={root}", *SETTINGS) for part in ("--set", key)]
        options = ["configs/tiny.toml", "--store", store, "--json", *settings]
        first, planned = acga("plan", *options)
        again, _ = acga("plan", *options)
        tasks = sum(entry["run"] for entry in planned["stages"].values())
        print(f"A2D's size: {VIDEOS} videos, {tasks} tasks, {machine()}")
        print(f"indexed and planned: {first:.1f} s (goal: under 20 s); again: {again:.1f} s (goal: under 3 s)")
        run = ["run", *options, "--workers", WORKERS]
        whole, _ = acga(*run)
        print(f"everything made: {whole:.0f} s; {overhead(store):.2f} s a task beside its own work")
        nothing = [acga(*run) for _ in range(REPEATS)]
        if any(document["executed"] for _, document in nothing):
            sys.exit(f"a run without change executed {nothing[0][1]['executed']}")
        plans = [acga("plan", *options)[0] for _ in range(REPEATS)]
        print(f"a run without change: {median(wall for wall, _ in nothing):.1f} s (goal: under 3 s)")
        print(f"a plan without change: {median(plans):.1f} s (goal: under 5 s)")
        shards = add(root, TEN)
        more, document = acga(*run)
        found = {stage: document["executed"].get(stage, 0) for stage in ("Frames", "VisualFeatures")}
        print(f"ten more videos, in {shards} shards: {more:.0f} s, executed {found} (goal: {shards} of each)")


def overhead(store: Path) -> float:
    """Seconds a task that the workers spent on anything else than building it, between the first and the last task."""
    (journal,) = (store / "journal").glob("*.jsonl")
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    work = sum(event["seconds"] for event in events if event["stage"] in SHARDED)
    made = sorted(path.stat().st_mtime for stage in SHARDED for path in (store / stage).glob("*/manifest.json"))
    return (WORKERS * (made[-1] - made[0]) - work) / len(made)


def add(root: Path, count: int) -> int:
    """Add videos to the train set, each a copy of one that is there; in how many shards they lie."""
    videoset, texts = root / "Release" / "videoset.csv", root / "text_annotations"
    rows = videoset.read_text().splitlines()
    spoken = {path.name for path in (texts / "a2d_annotation_with_instances").iterdir()}
    train = [row for row in rows if row.endswith(",0") and row.partition(",")[0] in spoken][:count]
    sentences = (texts / "a2d_annotation.txt").read_text().splitlines()
    names = {row.partition(",")[0]: f"new-video{number:02d}" for number, row in enumerate(train)}
    for old, new in names.items():
        shutil.copyfile(root / "Release" / "clips320H" / f"{old}.mp4", root / "Release" / "clips320H" / f"{new}.mp4")
        shutil.copytree(texts / "a2d_annotation_with_instances" / old, texts / "a2d_annotation_with_instances" / new)
        sentences += [line.replace(old, new) for line in sentences if line.startswith(f"{old},")]
    new_rows = [f"{name},{row.partition(',')[2]}" for name, row in zip(names.values(), train, strict=True)]
    videoset.write_text("\n".join([*rows, *new_rows]) + "\n")
    (texts / "a2d_annotation.txt").write_text("\n".join(sentences) + "\n")
    return len({int(hashlib.sha256(name.encode()).hexdigest(), 16) % SHARDS for name in names.values()})


def lay_out(root: Path) -> None:
    """A2D's folders with one tiny video and one annotation file, copied under every name."""
    clips, texts = root / "Release" / "clips320H", root / "text_annotations"
    clips.mkdir(parents=True)
    shutil.copytree(ANNOTATIONS, texts)
    with (ANNOTATIONS / "a2d_annotation.txt").open(newline="") as file:
        spoken = sorted({row["video_id"] for row in csv.DictReader(file)})
    missed = (ANNOTATIONS / "a2d_missed_videos.txt").read_text().split()
    names = sorted({*spoken, *missed})
    encode(root / "clip.mp4")
    annotate(root / "masks.h5")
    rows = []
    for number, name in enumerate(names):
        shutil.copyfile(root / "clip.mp4", clips / f"{name}.mp4")
        folder = texts / "a2d_annotation_with_instances" / name
        if name not in missed:
            folder.mkdir(parents=True)
            for frame in LABELLED:
                shutil.copyfile(root / "masks.h5", folder / f"{frame:05d}.h5")
        rows.append(f"{name},16,00:00:00,00:00:01,{SIZE},{SIZE},{FRAMES},{len(LABELLED)},{int(number % 5 == 0)}\n")
    (root / "Release" / "videoset.csv").write_text("".join(rows))
    if len(rows) != VIDEOS:
        sys.exit(f"the annotation files name {len(rows)} videos, not {VIDEOS}")


def encode(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for shade in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((SIZE, SIZE, 3), 10 * shade, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def annotate(path: Path) -> None:
    with h5py.File(path, "w") as file:
        masks = np.zeros((16, SIZE, SIZE), np.uint8)
        for instance in range(len(masks)):
            masks[instance, 3 * instance : 3 * instance + 3, 8:40] = 1
        file["reMask"] = masks
        file["instance"] = np.arange(16)
        file["id"] = np.full((1, 16), 16.0)


if __name__ == "__main__":
    main()
