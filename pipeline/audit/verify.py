"""A program that checks a store against a bundle of `acga audit`; it needs only Python, no packages and no network.

    python verify.py BUNDLE STORE

It checks that the manifests in the store are those of the bundle, with valid seals, and that their keys, contents and
inputs follow from their fields; that every file is unchanged and none was added; that the raw files that still exist at
their paths have the recorded hashes; and that the certificate's tree follows from the manifests. The exit code is 0 if
all checks pass, 1 if one fails (each line describes one failure), and 2 for a usage error.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # of JSON that is not what it should be
Manifests = dict[tuple[str, str], dict[str, Any]]


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of a value: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        value = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b""):
            value.update(block)
    return value.hexdigest()


def within(folder: Path, name: str) -> Path | None:
    """Return the path of a name below a folder, or None if the name leads out of the folder."""
    path = (folder / name).resolve()
    return path if path.is_relative_to(folder.resolve()) else None


def manifests(bundle: Path) -> tuple[Manifests, list[str]]:
    """Read the bundle's manifests; return them by stage and key, and a list of errors."""
    found: Manifests = {}
    wrong: list[str] = []
    for path in sorted((bundle / "manifests").glob("*/*.json")):
        try:
            manifest = json.loads(path.read_bytes())
            seal = manifest.pop("seal")
            found[manifest["stage"], manifest["key"]] = manifest
            if seal != digest(manifest):
                wrong.append(f"bundle: {path.name} of {manifest['stage']} was changed after it was written")
        except MALFORMED as error:
            wrong.append(f"bundle: {path.name} is no manifest ({error})")
    return found, wrong


def of_manifest(name: str, manifest: dict[str, Any], found: Manifests) -> Iterator[str]:
    """Yield an error for each hash or input of a manifest that does not follow from its fields."""
    ingredients = manifest["ingredients"]
    if digest(ingredients) != manifest["key"]:
        yield f"{name}: its key does not follow from its ingredients"
    if digest({file: entry["content"] for file, entry in manifest["files"].items()}) != manifest["content"]:
        yield f"{name}: its content hash does not follow from its files'"
    if digest(manifest["modules"]) != ingredients["code"]:
        yield f"{name}: its code digest does not follow from its modules'"
    if len(ingredients["inputs"]) != len(manifest["from"]):
        yield f"{name}: it names inputs ({len(manifest['from'])}) other than it read ({len(ingredients['inputs'])})"
    for number, (stage, label, key) in enumerate(manifest["from"]):
        below = found.get((stage, key))
        if below is None:
            yield f"{name}: its input {stage} {label} is not in the bundle"
        elif below["content"] != ingredients["inputs"].get(f"{number:04d} {stage}"):
            yield f"{name}: its input {stage} {label} has another content than was read"


def of_files(name: str, manifest: dict[str, Any], bundle: Path, store: Path) -> Iterator[str]:
    """Yield an error for each difference of an artifact in the store from its manifest in the bundle."""
    folder = within(store, f"{manifest['stage']}/{manifest['key'][:16]}")
    copy = bundle / "manifests" / manifest["stage"] / f"{manifest['key'][:16]}.json"
    if folder is None or not (folder / "manifest.json").is_file():
        yield f"{name}: it is not in the store"
        return
    if (folder / "manifest.json").read_bytes() != copy.read_bytes():
        yield f"{name}: its manifest in the store is not the bundle's"
    if (folder / "evicted").exists():
        return
    attempt = within(folder, manifest["attempt"])
    if attempt is None:
        yield f"{name}: its folder leads out of the store"
        return
    there = {str(path.relative_to(attempt)) for path in attempt.rglob("*") if path.is_file()}
    for file in sorted(there - manifest["files"].keys()):
        yield f"{name}: {file} was added"
    for file, entry in manifest["files"].items():
        if file not in there:
            yield f"{name}: {file} is missing"
        elif (attempt / file).stat().st_size != entry["bytes"] or sha256(attempt / file) != entry["sha256"]:
            yield f"{name}: {file} was changed"


def of_raw(bundle: Path) -> tuple[list[str], int]:
    """Check the raw files; return a list of errors and the number of files that are missing at their paths."""
    wrong, absent = [], 0
    for path in sorted((bundle / "catalogue").glob("*.json")):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:16] != path.stem:
            wrong.append(f"bundle: catalogue {path.name} was changed")
            continue
        catalogue = json.loads(content)
        files = list(catalogue["files"].values())
        for entry in catalogue["sets"].values():
            files += entry.get("files", [])
            for video in entry["videos"]:
                files += [video, *video["labelled"]]
        for file in files:
            if not Path(file["path"]).is_file():
                absent += 1
            elif sha256(Path(file["path"])) != file["sha256"]:
                wrong.append(f"raw file {file['path']} is not the one that was read")
    return wrong, absent


def of_certificate(bundle: Path, found: Manifests) -> Iterator[str]:
    """Yield an error for each part of the certificate's tree that does not follow from the manifests."""
    certificate = json.loads((bundle / "certificate.json").read_bytes())
    contents: dict[str, set[str]] = {}
    for manifest in found.values():
        contents.setdefault(manifest["stage"], set()).add(manifest["content"])
    lines = []
    for stage, entry in certificate["stages"].items():
        tasks = {label: task["root"] for label, task in entry["tasks"].items()}
        if not set(tasks.values()) <= contents.get(stage, set()):
            yield f"certificate: {stage} is not what the manifests say"
        root = hashlib.sha256("\n".join(tasks[label] for label in sorted(tasks)).encode()).hexdigest()
        if root != entry["root"]:
            yield f"certificate: the root of {stage} does not follow from its tasks"
        lines.append(f"{stage} {entry['root']}")
    if contents.keys() != certificate["stages"].keys():
        yield "certificate: its stages are not those of the manifests"
    if hashlib.sha256("\n".join(lines).encode()).hexdigest() != certificate["root"]:
        yield "certificate: its root does not follow from its stages"


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or not all(Path(argument).is_dir() for argument in arguments):
        sys.stderr.write("usage: python verify.py BUNDLE STORE\n")
        return 2
    bundle, store = map(Path, arguments)
    found, wrong = manifests(bundle)
    if not found:
        wrong.append("bundle: there are no manifests")
    for manifest in found.values():
        name = f"{manifest['stage']} {manifest.get('label', '')}".strip()
        try:
            wrong += [*of_manifest(name, manifest, found), *of_files(name, manifest, bundle, store)]
        except MALFORMED as error:
            wrong.append(f"bundle: the manifest of {name} lacks or garbles a field ({error})")
    of_files_read, absent = of_raw(bundle)
    wrong += of_files_read
    try:
        wrong += of_certificate(bundle, found)
    except (*MALFORMED, OSError) as error:
        wrong.append(f"bundle: certificate.json is no certificate ({error})")
    for line in wrong:
        sys.stdout.write(line + "\n")
    if absent:
        files = "1 raw file that is not where it was"
        if absent > 1:
            files = f"{absent} raw files that are not where they were"
        sys.stdout.write(f"not checked: {files}\n")
    sys.stdout.write("FAIL\n" if wrong else f"PASS: {len(found)} artifact{'s' * (len(found) != 1)}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
