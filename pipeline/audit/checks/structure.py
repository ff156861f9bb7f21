"""Checks B to G and J, which only read the store. (A is in `inputs`, H in `rederivation`, I in `results`.)"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from data.wording import counted
from extractors.cores import usable_cores
from pipeline.audit.subject import BY_NAME, Node, Subject, raw
from pipeline.audit.verdicts import Check, check
from pipeline.engine import catalogue, environment
from pipeline.engine.build import content_of
from pipeline.engine.key import module_digests
from pipeline.engine.syntax import ROOT
from pipeline.store.artifact import sha256
from pipeline.store.canonical_json import digest

FIELDS = frozenset(
    ("stage", "key", "content", "attempt", "files", "ingredients", "label", "from", "modules", "experiment", "cost")
)
PROTOCOLS = {
    "acga": "the authors' evaluator: half of the map's maximum, truth through the letterbox, >=, mean of precisions",
    "coco": "probability 0.5, the mask as drawn, >, COCO's average precision",
    "acga_several, acga_swapped, every_actor": "acga on clips with several actors; sentences shifted; all actors",
}
ORDER = "the order of samples is a permutation that SHA-256 makes of (seed, epoch); see models/training/sampling.py"


def recipe(subject: Subject) -> Check:
    """Run check B: the config, the source revision, the code of each stage, and the definitions of the metrics."""
    changed: dict[str, set[str]] = {}
    for node in subject.whole:
        now = _modules(node)
        for name in {*now, *node.known["modules"]}:
            if now.get(name) != node.known["modules"].get(name):
                changed.setdefault(name, set()).add(node.place.stage)
    drift = [f"code of {name} is another now ({', '.join(sorted(stages))})" for name, stages in sorted(changed.items())]
    metrics = subject.of("Metrics")
    revisions = sorted({node.known["environment"]["revision"] for node in subject.whole})
    facts = {
        "config": subject.config.model_dump(mode="json"),
        "made_by_revisions": revisions,
        "revision_now": environment.describe()["revision"],
        "diff_now": _diff(),
        "metrics": {
            "protocols": PROTOCOLS,
            "code": {node.known["modules"].get("models.evaluation.metrics") for node in metrics},
        },
    }
    unknown = ["the sources have no git revision"] if revisions == [""] else []
    return check("B", drift=drift, unchecked=unknown, facts=facts)


def _modules(node: Node) -> dict[str, str]:
    return module_digests(BY_NAME[node.place.stage].implementation)


def _diff() -> str:
    """Return the diff of the sources from the git revision; "" if there is none or git is not available."""
    try:
        done = subprocess.run(
            ["git", "diff", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def surroundings(subject: Subject) -> Check:
    """Run check C: compare the recorded environment of each artifact with the current environment of this machine."""
    now = environment.describe()
    stages: dict[str, set[str]] = {}
    for node in subject.whole:
        for text in _otherwise(node.known["environment"], now):
            stages.setdefault(text, set()).add(node.place.stage)
    drift = [f"{text} ({', '.join(sorted(names))})" for text, names in stages.items()]
    return check("C", drift=drift, facts={"now": now, "threads": subject.config.compute.threads})


def _otherwise(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between a recorded environment and the current one.

    The revision is left out because check B covers it, and the constraints file because it installs nothing by itself.
    """
    for name, value in then.items():
        if name in ("revision", "constraints") or value == now.get(name):
            continue
        if isinstance(value, dict) and isinstance(now.get(name), dict):
            for key in sorted({*value, *now[name]}):
                if value.get(key) != now[name].get(key):
                    yield f"{name} {key}: {value.get(key)} then, {now[name].get(key)} now"
        else:
            yield f"{name}: {value} then, {now.get(name)} now"


def randomness(subject: Subject) -> Check:
    """Run check D: the seeds and the settings that make results repeatable."""
    seeds = {
        f"{name}.{key}": value
        for name, section in subject.report.known["experiment"]["sections"].items()
        for key, value in section.items()
        if key == "seed"
    }
    device = subject.config.compute.device
    unknown = [] if device == "cpu" else [f"compute.device = {device!r}: kernels of GPUs need not repeat their sums"]
    switches = "one process a stage, fixed threads and batches; deterministic algorithms where there is a GPU"
    return check("D", unknown=unknown, facts={"seeds": seeds, "order": ORDER, "switches": switches})


def manifests(subject: Subject) -> Check:
    """Run check E: every manifest can be read, is undamaged, has all required fields, and names no path outside its
    folder."""
    wrong = [f"{node.name}: {node.trouble}" for node in subject.nodes if node.manifest is None]
    for node in subject.whole:
        if missing := sorted(FIELDS - node.known.keys()):
            wrong.append(f"{node.name}: its manifest does not say {', '.join(missing)}")
        elif out := [name for name in (node.known["attempt"], *node.known["files"]) if leads_out(name)]:
            wrong.append(f"{node.name}: {out[0]!r} leads out of its folder")
    return check("E", wrong, facts={"manifests": len(subject.nodes)})


def leads_out(name: str) -> bool:
    """Return whether a name from a manifest is a path that leads out of its folder."""
    return Path(name).is_absolute() or ".." in Path(name).parts


def lineage(subject: Subject) -> Check:
    """Run check F: keys follow from ingredients, and these from inputs and raw files; all inputs exist; no cycles."""
    wrong: list[str] = []
    unknown: list[str] = []
    places = {(node.place.stage, node.place.key): node for node in subject.nodes}
    source = raw(subject)
    for node in subject.whole:
        wrong += _of_node(node, places)
        try:
            if source is not None:
                wrong += _of_members(subject, node)
        except (KeyError, ValueError) as error:  # the current code cannot read the recorded config
            unknown.append(f"{node.name}: its raw records cannot be listed by the code as it is ({error})")
    if _is_cyclic(places):
        wrong.append("manifests name each other in a circle")
    if source is None:
        unknown.append(f"catalogue {subject.catalogue} of the raw files is gone or damaged")
    return check("F", wrong, unknown=unknown)


def _of_node(node: Node, places: Mapping[tuple[str, str], Node]) -> Iterator[str]:
    manifest = node.known
    ingredients = manifest["ingredients"]
    if digest(ingredients) != manifest["key"]:
        yield f"{node.name}: its key does not follow from its ingredients"
    if ingredients["stage"] != manifest["stage"]:
        yield f"{node.name}: its ingredients are of {ingredients['stage']}"
    if digest({name: file["content"] for name, file in manifest["files"].items()}) != manifest["content"]:
        yield f"{node.name}: its content hash does not follow from its files'"
    if digest(manifest["modules"]) != ingredients["code"]:
        yield f"{node.name}: its code digest does not follow from its modules'"
    named = [f"{number:04d} {stage}" for number, (stage, _, _) in enumerate(manifest["from"])]
    if named != sorted(ingredients["inputs"]):
        yield f"{node.name}: its inputs are not those that it names"
        return
    for name, (stage, label, key) in zip(named, manifest["from"], strict=True):
        below = places.get((stage, key))
        if below is None or below.manifest is None:
            yield f"{node.name}: its input {stage} {label} ({key[:16]}) is not there"
        elif below.manifest["content"] != ingredients["inputs"][name]:
            yield f"{node.name}: {below.name} has another content than was read"


def _of_members(subject: Subject, node: Node) -> Iterator[str]:
    """Yield a finding if the raw records of a manifest are not those of the catalogue."""
    members = subject.task(node).raw_members()
    if digest(catalogue.identity(members)) != node.known["ingredients"]["members"]:
        yield f"{node.name}: its raw records are not those of catalogue {subject.catalogue}"


def _is_cyclic(places: Mapping[tuple[str, str], Node]) -> bool:
    done: set[tuple[str, str]] = set()

    def visit(name: tuple[str, str], above: tuple[tuple[str, str], ...]) -> bool:
        if name in above:
            return True
        if name in done or name not in places:
            return False
        done.add(name)
        inputs = (places[name].manifest or {}).get("from", [])
        return any(visit((stage, key), (*above, name)) for stage, _, key in inputs)

    return any(visit(name, ()) for name in places)


def integrity(subject: Subject) -> Check:
    """Run check G: every file is unchanged since publication and matches its content hash, and no file was added."""
    wrong, unchecked, size = [], [], 0
    with ThreadPoolExecutor(usable_cores()) as pool:
        for node, found in zip(subject.whole, pool.map(_of_files, subject.whole), strict=True):
            if node.place.evicted:
                unchecked.append(f"{node.name}: its files were evicted")
                continue
            wrong += found
            size += sum(file["bytes"] for file in node.known["files"].values())
    return check("G", wrong, unchecked=unchecked, facts={"bytes": size})


def _of_files(node: Node) -> list[str]:
    if node.place.evicted:
        return []
    files, found = node.known["files"], []
    there = {str(path.relative_to(node.attempt)) for path in node.attempt.rglob("*") if path.is_file()}
    found += [f"{node.name}: {name} was added" for name in sorted(there - files.keys())]
    for name, file in files.items():
        path = node.attempt / name
        if name not in there:
            found.append(f"{node.name}: {name} is missing")
        elif path.stat().st_size != file["bytes"]:
            found.append(f"{node.name}: {name} has {counted(path.stat().st_size, 'byte')} instead of {file['bytes']}")
        elif sha256(path) != file["sha256"]:
            found.append(f"{node.name}: {name} was changed")
        elif content_of(path) != file["content"]:
            found.append(f"{node.name}: {name} does not hold what its content hash says")
    return found


def adoptions(subject: Subject, waived: Mapping[str, str]) -> Check:
    """Run check J: list the artifacts adopted for changed code after a sample was equal, and the waivers."""
    adopted: list[dict[str, Any]] = []
    drift = []
    for node in subject.whole:
        evidence = node.known.get("adopted")
        if evidence is None:
            continue
        adopted.append({"artifact": node.name, **evidence})
        sample = ", ".join(label for label, _, _ in evidence["sample"])
        modules = ", ".join(evidence["modules"])
        drift.append(f"{node.name} was adopted for changed {modules} after {sample} came out equal ({evidence['at']})")
    return check("J", drift=drift, facts={"adopted": adopted, "waived": dict(waived)})
