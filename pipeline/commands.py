"""What the commands do once their arguments are read, and what they print; each returns its exit code.

With --json one document goes to standard output; everything else goes to standard error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.defects import RULES
from pipeline import catalogue, check, config, diff, exchange, miniature, plan, run
from pipeline.graph import STAGES
from pipeline.progress import Progress
from pipeline.stage import Stage

DONE, NO, USAGE, FAILED = 0, 1, 2, 3


def do_run(options: argparse.Namespace) -> int:
    """Build what is missing and print what was done and the scores."""
    seeds = [] if options.seeds is None else [f"report.seeds={options.seeds}"]
    settings = config.load(options.config, [*options.set, *seeds])
    if settings.visual.weights == "seeded":
        _say("visual.weights = 'seeded': random weights, not trained on anything; scores say nothing about the method")
    outcome = run.run(settings, options.store, options.until, options.workers, options.scheduler, options.verify)
    document: dict[str, Any] = {
        "ok": True,
        "executed": outcome.executed,
        "reused": outcome.reused,
        "artifacts": outcome.artifacts,
        "metrics": _metrics(outcome.roots),
        "seeds": _document(outcome.roots, "seeds.json"),
        "report": _report(outcome.roots),
        "seconds": outcome.seconds,
        "peak_memory_mib": outcome.peak_memory_mib,
    }
    if options.json:
        print(json.dumps(document))
        return DONE
    for stage in STAGES:
        done, kept = outcome.executed.get(stage.__name__, 0), outcome.reused.get(stage.__name__, 0)
        if done or kept:
            print(f"{stage.__name__:15}  {done:4} executed  {kept:4} reused")
    _print_scores(document["metrics"])
    for protocol, found in document["seeds"].items():
        each = ", ".join(f"{value:.3f}" for value in found["each"])
        print(f"{protocol:15}  over seeds: mean IoU {found['mean']:.3f} +- {found['deviation']:.3f}   ({each})")
    print(f"{outcome.seconds:.1f} s, at most {outcome.peak_memory_mib} MiB")
    if document["report"]:
        print(f"report: {document['report']}")
    return DONE


def _print_scores(protocols: Mapping[str, Any]) -> None:
    for protocol, scores in protocols.items():
        print(
            f"{protocol:15}  mean IoU {scores['mean_iou']:.3f}   overall IoU {scores['overall_iou']:.3f}"
            f"   P@0.5 {scores['precision']['0.5']:.3f}   mAP {scores['map']:.3f}   ({scores['samples']} samples)"
        )


def do_plan(options: argparse.Namespace) -> int:
    """Print what would run, why, and what it would cost."""
    settings = config.load(options.config, options.set)
    stages = plan.plan(run.prepare(settings, options.store, options.until))
    if options.json:
        print(json.dumps({"stages": stages}))
        return DONE
    for stage, entry in stages.items():
        bound = f" (at most: {entry['unless_equal']} only if inputs change)" if entry["unless_equal"] else ""
        evicted = f"  {entry['evicted']:4} evicted, not needed" if entry["evicted"] else ""
        print(f"{stage:15}  {entry['run']:4} would run  {entry['reuse']:4} reused{evicted}{bound}{_cost(entry)}")
        for reason in entry["reasons"]:
            print(f"{'':17}{reason}")
    return DONE


def _cost(entry: Mapping[str, Any]) -> str:
    """What a stage would take, where earlier runs tell."""
    parts = [f"{entry['videos']:.0f} videos"] if entry["videos"] is not None else []
    if entry["seconds"] is not None:
        parts += [f"about {entry['seconds']:.0f} s", f"{entry['bytes'] / 2**20:.1f} MiB"]
    return f"  [{', '.join(parts)}]" if parts else ""


def do_why(options: argparse.Namespace) -> int:
    """Print for every task of one stage whether it would run and why."""
    settings = config.load(options.config, options.set)
    found = [
        task for task in plan.planned(run.prepare(settings, options.store, "Report")) if task.stage == options.stage
    ]
    if options.json:
        print(json.dumps({"stage": options.stage, "tasks": [dataclasses.asdict(task) for task in found]}))
        return DONE
    for task in found:
        state = "would run" if task.runs else "evicted, not needed" if task.evicted else "reused"
        print(f"{task.stage} {task.label}".strip() + f": {state}")
        for reason in task.reasons:
            print(f"  {reason}")
    if not found:
        print(f"{options.stage} is no part of this experiment")
    return DONE


def do_status(options: argparse.Namespace) -> int:
    """Print which stages are done."""
    settings = config.load(options.config, options.set)
    stages = plan.plan(run.prepare(settings, options.store, "Report"))
    done = {
        name: {"done": entry["reuse"], "missing": entry["run"], "evicted": entry["evicted"]}
        for name, entry in stages.items()
    }
    complete = not any(entry["missing"] for entry in done.values())
    if options.json:
        print(json.dumps({"complete": complete, "stages": done}))
    else:
        for name, entry in done.items():
            evicted = f"  {entry['evicted']:4} evicted, not needed" if entry["evicted"] else ""
            print(f"{name:15}  {entry['done']:4} done  {entry['missing']:4} missing{evicted}")
    return DONE if complete else NO


def do_check(options: argparse.Namespace) -> int:
    """Print what is wrong with the data set."""
    settings = config.load(options.config, options.set)
    if bool(options.sheet) != bool(options.video):
        raise config.ConfigError("--sheet OUT.png and --video ID go together; give both or none")
    roots = run.folders(settings, options.store)
    if options.sheet:
        return _sheet(options, settings, roots)
    found = check.check(settings, roots, options.fast, options.workers)
    document = {
        "ok": not found.errors,
        "videos": found.videos,
        "samples": found.samples,
        "errors": list(found.errors),
        "rules": found.rules,
    }
    if options.json:
        print(json.dumps(document))
        return NO if found.errors else DONE
    print(f"{found.videos} videos, {found.samples} samples" + (", videos not decoded (--fast)" if options.fast else ""))
    for rule, hits in found.rules.items():
        print(f"{rule:22} {hits:6}  {RULES[rule].detects}: {RULES[rule].done}")
    for error in found.errors:
        print(f"error: {error}")
    print(f"{len(found.errors)} errors" if found.errors else "no errors")
    return NO if found.errors else DONE


def _sheet(options: argparse.Namespace, settings: config.Config, roots: dict[str, Path]) -> int:
    from pipeline import sheet  # here, since it loads OpenCV

    for name in roots:
        section = settings.datasets[name]
        for split in sorted({role.split for role in settings.sets.values() if role.dataset == name}):
            for video in catalogue.listing(section, roots[name], split).videos:
                if video.id == options.video:
                    last = check.last_frame(section.kind, video)
                    frames = settings.frames
                    sheet.write(options.sheet, section.kind, video, last, frames.length, frames.limit_seconds)
                    print(json.dumps({"sheet": str(options.sheet)}) if options.json else options.sheet)
                    return DONE
    raise config.ConfigError(
        f"--video {options.video}: no such video in the sets of {options.config}; see videoset.csv"
    )


def do_score(options: argparse.Namespace) -> int:
    """Print the scores of given masks."""
    from pipeline import score  # here, since it loads torch

    document = score.score(options.truth, options.predictions)
    if options.json:
        print(json.dumps(document))
        return DONE
    _print_scores(document["protocols"])
    if document["without_prediction"]:
        print(f"{document['without_prediction']} images have no prediction and count as predicted empty")
    return DONE


def do_export(options: argparse.Namespace) -> int:
    """Write the authors' layout."""
    settings = config.load(options.config, options.set)
    with Progress("export") as progress:
        done = exchange.export(settings, options.store, options.to, options.workers, progress.update)
    if options.json:
        print(json.dumps({"to": str(options.to), **dataclasses.asdict(done)}))
        return DONE
    rows = ", ".join(f"{count} {role} samples" for role, count in done.samples.items())
    print(f"{options.to}: {rows} of {done.bytes_per_row} bytes; {done.written} written now")
    return DONE


def do_import(options: argparse.Namespace) -> int:
    """Take a folder in the authors' layout into the store."""
    outcome = exchange.load_folder(options.folder, options.store, options.config, options.set, options.workers)
    folders = outcome.artifacts["Imported"]
    if options.json:
        print(json.dumps({"folders": folders, "executed": outcome.executed, "reused": outcome.reused}))
        return DONE
    for folder in folders:
        print(folder)
    print("sentences, video ids, frames and the masks as drawn are not in such a folder; go on with")
    print(f"  acga run {options.config} --set dataset.root={options.folder} --store {options.store}")
    return DONE


def do_diff(options: argparse.Namespace) -> int:
    """Print where two sets of features part."""
    sides = [config.load(path, options.set) if path.suffix == ".toml" else path for path in (options.a, options.b)]
    with Progress("diff") as progress:
        found = diff.diff(sides[0], sides[1], options.store, options.clips, options.seed, progress.update)
    if options.json:
        print(json.dumps(found))
        return DONE if found["verdict"] == "identical" else NO
    errors = sorted(found["samples"].items(), key=lambda sample: -(sample[1] or 0))
    differing = [(name, error) for name, error in errors if error != 0]
    print(
        f"{len(errors)} clips compared, {len(differing)} differ" if errors else f"{len(found['clips'])} clips replayed"
    )
    for name, error in differing[:5]:
        print(f"  {name}: " + ("other shape" if error is None else f"largest error {error:.2e}"))
    for key, (of_a, of_b) in found["settings"].items():
        print(f"  config: {key} is {of_a!r} in A, {of_b!r} in B")
    print(f"{found['verdict']}{': ' + found['stage'] if found['stage'] else ''}. {found['sentence']}")
    return DONE if found["verdict"] == "identical" else NO


def do_miniature(options: argparse.Namespace) -> int:
    """Write the generated data set."""
    settings = config.load(options.config, options.set)
    if settings.miniature is None:
        raise config.ConfigError(f"config {options.config} has no section [miniature]")
    if options.to.exists():
        raise config.ConfigError(f"--to {options.to} exists; give a folder that does not")
    miniature.write(settings.miniature, options.to)
    if options.json:
        print(json.dumps({"root": str(options.to)}))
    return DONE


def _metrics(roots: list[Stage]) -> dict[str, Any]:
    return _document(roots, "metrics.json").get("protocols", {})


def _document(roots: list[Stage], name: str) -> dict[str, Any]:
    path = _published(roots, name)
    return json.loads(path.read_text(encoding="utf-8")) if path else {}


def _report(roots: list[Stage]) -> str | None:
    path = _published(roots, "report.html")
    return str(path.resolve()) if path else None


def _published(roots: list[Stage], name: str) -> Path | None:
    """A file of the artifact of the only root, where it has one of that name."""
    artifact = roots[0].artifact()
    if artifact is None:
        return None
    path = artifact.files() / name
    return path if path.exists() else None


def _say(text: str) -> None:
    print(text, file=sys.stderr)
