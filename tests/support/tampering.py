"""What somebody, or a disk, could do to a finished store of tiny; by the names of docs/audit.md's table."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - zstd inside HDF5
import numpy as np
from commands import Acga
from safetensors import safe_open
from safetensors.torch import save_file

from extractors.shards.digests import row_digest
from pipeline.store.canonical_json import canonical, digest

STAGES = (
    "Frames",
    "Masks",
    "TextFeatures",
    "VisualFeatures",
    "Samples",
    "TrainedModel",
    "Predictions",
    "Metrics",
    "Report",
)


@dataclass
class Case:
    """A store, a folder for other things, and how it is audited then."""

    store: Path
    folder: Path
    acga: Acga
    arguments: tuple[object, ...] = ()

    def manifest(self, stage: str, label: str = "") -> Path:
        """The manifest of an artifact, the first of its stage by label where none is given."""
        paths = {json.loads(path.read_bytes())["label"]: path for path in (self.store / stage).glob("*/manifest.json")}
        return paths[label or min(paths)]

    def file(self, stage: str, name: str, label: str = "") -> Path:
        """A published file."""
        path = self.manifest(stage, label)
        return path.parent / json.loads(path.read_bytes())["attempt"] / name

    @property
    def raw(self) -> Path:
        """The folder of the miniature."""
        (folder,) = (path for path in (self.store / "miniature").iterdir() if path.is_dir())
        return folder


Tamper = Callable[[Case], None]


def flipped(path: Path) -> None:
    """One bit, as a disk does it: size and times stay."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    place = random.Random(path.name).randrange(len(content) // 3, len(content))
    content[place] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip(stage: str, name: str) -> Tamper:
    return lambda case: flipped(case.file(stage, name))


def edit(stage: str, name: str, change: Callable[[Any], None]) -> Tamper:
    """A JSON file, changed by hand."""

    def tamper(case: Case) -> None:
        rewrite(case.file(stage, name), change)

    return tamper


def rewrite(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document, indent=1))


def of_manifest(change: Callable[[Any], None], stage: str = "VisualFeatures") -> Tamper:
    """A manifest changed by hand, its seal left as it was."""
    return lambda case: rewrite(case.manifest(stage), change)


def sealed(stage: str, change: Callable[[dict[str, Any]], None]) -> Tamper:
    """A manifest changed by somebody who knows how to seal it."""
    return lambda case: seal(case.manifest(stage), change)


def seal(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads(path.read_bytes())
    manifest.pop("seal")
    change(manifest)
    path.write_bytes(canonical({**manifest, "seal": digest(manifest)}))


def hashed_again(path: Path) -> None:
    """A manifest's hashes made to fit its files."""
    from pipeline.engine.build import described_files

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"] = described_files(path.parent / manifest["attempt"])
        manifest["content"] = digest({name: file["content"] for name, file in manifest["files"].items()})

    seal(path, change)


def forged(stage: str, name: str, change: Callable[[Path], None], chain: bool) -> Tamper:
    """A file changed and its manifest's hashes recomputed; with `chain` those of all manifests after it, too."""

    def tamper(case: Case) -> None:
        path = case.manifest(stage)
        change(case.file(stage, name))
        hashed_again(path)
        if chain:
            relink(case.store)

    return tamper


def relink(store: Path) -> None:
    """Recompute every key and every recorded input, as if everything had been built so."""
    moved: dict[tuple[str, str], tuple[str, str]] = {}
    for stage in STAGES:
        for path in sorted((store / stage).glob("*/manifest.json")):
            manifest = json.loads(path.read_bytes())
            manifest.pop("seal")
            old = manifest["key"]
            for number, named in enumerate(manifest["from"]):
                content, key = moved[named[0], named[2]]
                manifest["ingredients"]["inputs"][f"{number:04d} {named[0]}"] = content
                named[2] = key
            manifest["key"] = digest(manifest["ingredients"])
            path.write_bytes(canonical({**manifest, "seal": digest(manifest)}))
            moved[stage, old] = (manifest["content"], manifest["key"])
            if manifest["key"] != old:
                path.parent.rename(path.parent.with_name(manifest["key"][:16]))


def shard_changed(array: str) -> Callable[[Path], None]:
    """A value of the first row of a shard, and the row's digest with it."""

    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            values = file[array][0]
            values[tuple(size // 2 for size in values.shape)] += 1
            file[array][0] = values
            arrays = {name: file[name][0] for name in file if name not in ("ids", "digests", "valid")}
            digests = row_digest(file["ids"][0].decode(), arrays)
            file["digests"][0] = np.frombuffer(digests, file["digests"].dtype)

    return change


def weight_changed(prefix: str) -> Callable[[Path], None]:
    """A trained weight of a safetensors file, the first whose name begins so."""

    def change(path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        name = min(name for name in tensors if name.startswith(prefix))
        tensors[name].view(-1)[0] += 0.01
        save_file(tensors, path, metadata)

    return change


def clips_swapped(case: Case) -> None:
    with h5py.File(case.file("VisualFeatures", "visual.h5"), "r+") as file:
        first, second = file["features"][0], file["features"][1]
        file["features"][0], file["features"][1] = second, first


def shards_swapped(case: Case) -> None:
    one, other = (case.file("VisualFeatures", "visual.h5", label) for label in ("train/000 rgb", "train/001 rgb"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def manifests_swapped(case: Case) -> None:
    one, other = (case.manifest("Masks", label) for label in ("train/000", "train/001"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def video_replaced(case: Case) -> None:
    """By another one, its size and times restored."""
    path, other = sorted(case.raw.rglob("*.mp4"))[:2]
    status = path.stat()
    content = other.read_bytes()[: status.st_size].ljust(status.st_size, b"\0")
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def annotation_changed(case: Case) -> None:
    path = sorted(case.raw.rglob("*/a2d_annotation_with_instances/*/*.h5"))[0]
    with h5py.File(path, "r+") as file:
        masks = file["reMask"][...]
        masks[..., :3, :3] ^= 1
        file["reMask"][...] = masks


def text_changed(name: str, change: Callable[[list[str]], list[str]]) -> Tamper:
    def tamper(case: Case) -> None:
        path = next(case.raw.rglob(name))
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return tamper


def weights_changed(case: Case) -> None:
    path = case.folder / "model.safetensors"
    shutil.copy(case.file("TrainedModel", "model.safetensors"), path)
    case.arguments = ("--set", f"model.checkpoint={path}")
    case.acga.run(case.store, *case.arguments)
    flipped(path)


def source_edited(case: Case) -> None:
    case.acga = Acga.copied(case.folder / "project")
    path = case.acga.project / "data" / "letterbox.py"
    path.write_text(path.read_text() + "\nANOTHER = 1\n")


def refactoring_adopted(case: Case) -> None:
    case.acga = Acga.copied(case.folder / "project")
    path = case.acga.project / "data" / "masks.py"
    path.write_text(path.read_text().replace("SMALL_CELL = 16", "SMALL_CELL = 4 * 4"))
    assert case.acga("adopt", "Masks", case.acga.config, "--store", case.store, "--sample", 1).code == 0
    case.acga.run(case.store)


def certificate_of_before(tamper: Tamper) -> Tamper:
    """Somebody else has the certificate of the store as it was."""

    def tampered(case: Case) -> None:
        path = case.folder / "certificate.json"
        assert case.acga("audit", case.acga.config, "--store", case.store, "--certificate", path).code == 0
        tamper(case)
        case.arguments = ("--compare", path)

    return tampered


def rebuilt(share: str, tamper: Tamper) -> Tamper:
    def tampered(case: Case) -> None:
        tamper(case)
        case.arguments = ("--rebuild", share)

    return tampered


def better(document: Any) -> None:
    document["protocols"]["acga"]["mean_iou"] = 0.9


def surer(document: Any) -> None:
    """The interval of a score made narrow."""
    document["protocols"]["coco"]["intervals"]["map"][0] += 0.01


def one_better(document: Any) -> None:
    """The IoU of a single sample."""
    document["samples"][min(document["samples"])] += 0.01


def another_mask(document: Any) -> None:
    """The first sample is said to be predicted as the last one was, turned into something else."""
    first, second = document["samples"][0], document["samples"][-1]
    first["acga"], first["coco"] = second["coco"], second["acga"]


def reverse(document: Any) -> None:
    document["samples"].reverse()


def page_better(case: Case) -> None:
    path = case.file("Report", "report.html")
    path.write_text(path.read_text().replace("<td>acga<td>20<td>", "<td>acga<td>20<td>9", 1))


def an_input(document: dict[str, Any]) -> None:
    document["ingredients"]["inputs"][min(document["ingredients"]["inputs"])] = "0" * 64


def of_json(change: Callable[[Any], None]) -> Callable[[Path], None]:
    return lambda path: rewrite(path, change)


FEATURES = ("VisualFeatures", "visual.h5", shard_changed("features"))

TAMPERINGS: dict[str, Tamper] = {
    "a bit of frames.h5": flip("Frames", "frames.h5"),
    "a bit of ledger.json": flip("Frames", "ledger.json"),
    "a bit of masks.h5": flip("Masks", "masks.h5"),
    "a bit of truth.json": flip("Masks", "truth.json"),
    "a bit of text.h5": flip("TextFeatures", "text.h5"),
    "a bit of text.json": flip("TextFeatures", "text.json"),
    "a bit of visual.h5": flip("VisualFeatures", "visual.h5"),
    "a bit of samples.json": flip("Samples", "samples.json"),
    "a bit of model.safetensors": flip("TrainedModel", "model.safetensors"),
    "a bit of training.json": flip("TrainedModel", "training.json"),
    "a bit of last_epoch.safetensors": flip("TrainedModel", "last_epoch.safetensors"),
    "a bit of predictions.json": flip("Predictions", "predictions.json"),
    "a bit of metrics.json": flip("Metrics", "metrics.json"),
    "a bit of report.html": flip("Report", "report.html"),
    "a bit of a manifest": lambda case: flipped(case.manifest("Masks")),
    "a bit of the report's manifest": lambda case: flipped(case.manifest("Report")),
    "a bit of the catalogue": lambda case: flipped(next((case.store / "catalogue").glob("[0-9a-f]*.json"))),
    "a file cut short": lambda case: os.truncate(case.file("VisualFeatures", "visual.h5"), 100),
    "a file removed": lambda case: case.file("Masks", "masks.h5").unlink(),
    "a file added": lambda case: case.file("Frames", "more.txt").write_text("more") and None,
    "an artifact removed": lambda case: shutil.rmtree(case.manifest("Masks").parent),
    "the catalogue removed": lambda case: next((case.store / "catalogue").glob("[0-9a-f]*.json")).unlink(),
    "two clips of a shard swapped": clips_swapped,
    "two shards swapped": shards_swapped,
    "two manifests swapped": manifests_swapped,
    "a manifest's cost edited": of_manifest(lambda manifest: manifest["cost"].update(seconds=0.1)),
    "a manifest's label edited": of_manifest(lambda manifest: manifest.update(label="test/009 rgb")),
    "a manifest's config edited and sealed": sealed(
        "TrainedModel", lambda manifest: manifest["ingredients"]["sections"]["training"].update(lr=0.1)
    ),
    "a manifest's code digest edited and sealed": sealed(
        "Frames", lambda manifest: manifest["ingredients"].update(code="0" * 64)
    ),
    "a manifest's modules edited and sealed": sealed(
        "Frames", lambda manifest: manifest["modules"].update({"data.letterbox": "0" * 64})
    ),
    "a manifest's recorded input edited and sealed": sealed("Samples", an_input),
    "a manifest's content hash edited and sealed": sealed("Masks", lambda manifest: manifest.update(content="0" * 64)),
    "a manifest's folder led out of the store": sealed("Masks", lambda manifest: manifest.update(attempt="../../..")),
    "features changed, their manifest hashed again": forged(*FEATURES, chain=False),
    "features changed, all manifests hashed again, rebuilt": rebuilt("all", forged(*FEATURES, chain=True)),
    "features changed, all manifests hashed again, compared": certificate_of_before(forged(*FEATURES, chain=True)),
    "weights changed, all manifests hashed again, rebuilt": rebuilt(
        "1", forged("TrainedModel", "model.safetensors", weight_changed("decoder."), chain=True)
    ),
    "the state before the last epoch changed, all manifests hashed again, rebuilt": rebuilt(
        "1", forged("TrainedModel", "last_epoch.safetensors", weight_changed("model.decoder."), chain=True)
    ),
    "masks changed, their manifest hashed again": forged("Masks", "masks.h5", shard_changed("large"), chain=False),
    "predictions altered": edit("Predictions", "predictions.json", another_mask),
    "predictions altered, all manifests hashed again": forged(
        "Predictions", "predictions.json", of_json(another_mask), chain=True
    ),
    "metrics edited": edit("Metrics", "metrics.json", better),
    "metrics edited, all manifests hashed again": forged("Metrics", "metrics.json", of_json(better), chain=True),
    "an interval edited, all manifests hashed again": forged("Metrics", "metrics.json", of_json(surer), chain=True),
    "a sample's IoU edited, all manifests hashed again": forged(
        "Metrics", "metrics.json", of_json(one_better), chain=True
    ),
    "the report's metrics edited": edit("Report", "metrics.json", better),
    "a number of the page edited": page_better,
    "samples in another order": edit("Samples", "samples.json", reverse),
    "losses edited": edit("TrainedModel", "training.json", lambda document: document["epochs"].pop()),
    "a video replaced, its size and times restored": video_replaced,
    "a video removed": lambda case: sorted(case.raw.rglob("*.mp4"))[0].unlink(),
    "an annotation changed": annotation_changed,
    "a sentence edited": text_changed("a2d_annotation.txt", lambda lines: [lines[0], f"{lines[1]} slowly", *lines[2:]]),
    "a sentence removed": text_changed("a2d_annotation.txt", lambda lines: lines[:-1]),
    "a video moved to the other set": text_changed(
        "videoset.csv", lambda lines: [lines[0][:-1] + str(1 - int(lines[0][-1])), *lines[1:]]
    ),
    "the weights of a checkpoint changed": weights_changed,
    "the config edited": lambda case: setattr(case, "arguments", ("--set", "training.lr=0.1")),
    "a package of another version": sealed(
        "VisualFeatures", lambda manifest: manifest["environment"]["packages"].update(torch="1.4.0")
    ),
    "a source file edited": source_edited,
    "a refactoring adopted": refactoring_adopted,
}
