"""The bundle of an audit: an RO-Crate with everything that a third party needs to check a store, without the data.

It contains manifests/<stage>/<key>.json, catalogue/, config.json, constraints.txt, certificate.json, report/,
audit.html, audit.json, and verify.py, which needs only Python.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pipeline.audit import page
from pipeline.audit.audit import Audit
from pipeline.config import ConfigError
from pipeline.engine.syntax import ROOT
from pipeline.store import atomic_folder

VERIFY = Path(__file__).with_name("verify.py")
PROFILES = ("https://w3id.org/ro/wfrun/process/0.5",)


def write(audit: Audit, folder: Path, command: str) -> None:
    """Write the bundle into a new folder. Raises `ConfigError` if the folder exists or the audit has no certificate."""
    if folder.exists():
        raise ConfigError(f"--bundle {folder} exists; give a folder that does not")
    if audit.certificate is None:
        raise ConfigError("there is no certificate to put into a bundle: the audit failed; see its findings")
    with atomic_folder.atomic_folder(folder) as part:
        _collect(audit, part, command)
        _describe(audit, part, command)


def _collect(audit: Audit, folder: Path, command: str) -> None:
    subject = audit.subject
    for node in subject.whole:
        place = folder / "manifests" / node.place.stage
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(node.place.folder / "manifest.json", place / f"{node.place.key[:16]}.json")
    (folder / "catalogue").mkdir()
    for name in sorted({node.known["experiment"]["catalogue"] for node in subject.whole}):
        source = subject.store / "catalogue" / f"{name}.json"
        if source.exists():
            shutil.copy(source, folder / "catalogue")
    if not subject.report.place.evicted:
        shutil.copytree(subject.report.attempt, folder / "report")
    documents = {
        "config.json": json.dumps(subject.config.model_dump(mode="json"), indent=1),
        "certificate.json": json.dumps(audit.certificate),
        "audit.json": page.document(audit),
        "audit.html": page.page(audit, command),
    }
    for name, text in documents.items():
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "constraints.txt", folder)
    shutil.copy(VERIFY, folder)


def _describe(audit: Audit, folder: Path, command: str) -> None:
    """Write ro-crate-metadata.json: a description of each file and of the run that made them (Process Run Crate)."""
    from rocrate.model.contextentity import ContextEntity  # imported here because it loads slowly
    from rocrate.rocrate import ROCrate

    crate = ROCrate()
    crate.name = "Evidence of an acga run"
    crate.description = f"Audit of {audit.subject.report.place.folder}: {audit.verdict}"
    said = {
        "config.json": "the config, every key resolved",
        "certificate.json": "Merkle tree over the contents of all artifacts: stage, task, clip",
        "audit.json": "what was checked, found, and not checked",
        "audit.html": "the same, to be read",
        "constraints.txt": "the packages that the project pins",
        "verify.py": "checks this bundle against a store, with Python alone",
    }
    for name, text in said.items():
        crate.add_file(folder / name, name, properties={"description": text})
    crate.add_dataset(folder / "manifests", "manifests", properties={"description": "the manifest of every artifact"})
    crate.add_dataset(folder / "catalogue", "catalogue", properties={"description": "the raw files, by SHA-256"})
    results = [{"@id": "audit.json"}]
    if (folder / "report").is_dir():
        crate.add_dataset(folder / "report", "report", properties={"description": "the report, and its metrics"})
        results = [{"@id": "report/"}]
    revision = audit.subject.report.known["environment"]["revision"]
    tool = ContextEntity(
        crate, "#acga", {"@type": "SoftwareApplication", "name": "acga", "version": revision or "unknown"}
    )
    action = {
        "@type": "CreateAction",
        "name": command,
        "instrument": {"@id": "#acga"},
        "object": [{"@id": "config.json"}, {"@id": "catalogue/"}],
        "result": results,
    }
    crate.add(tool, ContextEntity(crate, "#run", action))
    profiles = [ContextEntity(crate, url, {"@type": "CreativeWork", "name": "Process Run Crate"}) for url in PROFILES]
    crate.add(*profiles)
    crate.root_dataset["conformsTo"] = profiles
    crate.root_dataset["mentions"] = [{"@id": "#run"}]
    crate.metadata.write(folder)
