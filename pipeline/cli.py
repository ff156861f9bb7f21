"""The command `acga`: the one place that prints.

Exit codes: 0 done, 1 the answer is no, 2 usage or config, 3 a stage failed. With --json, one document goes to
standard output; everything else goes to standard error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.defects import RULES
from pipeline import catalogue, check, config, diff, exchange, miniature, plan, run
from pipeline.artifact import StoreError
from pipeline.graph import STAGES
from pipeline.progress import Progress
from pipeline.stage import Stage, speak

DONE, NO, USAGE, FAILED = 0, 1, 2, 3
REFERENCE = Path(__file__).resolve().parent.parent / "configs" / "reference.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    speak()
    try:
        return options.command(options)
    except run.StageFailed as error:
        return _refuse(error, FAILED)
    except StoreError as error:
        return _refuse(error, FAILED)
    except KeyboardInterrupt:
        return _refuse("interrupted; run the same command to go on", 130)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("data", "extractors", "pipeline"):
            raise
        return _refuse(error, USAGE)


def _run(options: argparse.Namespace) -> int:
    settings = config.load(options.config, options.set)
    if settings.visual.weights == "seeded":
        _say("visual.weights = 'seeded': random weights, not trained on anything; scores say nothing about the method")
    outcome = run.run(settings, options.store, options.until, options.workers, options.scheduler)
    document: dict[str, Any] = {
        "ok": True,
        "executed": outcome.executed,
        "reused": outcome.reused,
        "artifacts": outcome.artifacts,
        "metrics": _metrics(outcome.roots),
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


def _plan(options: argparse.Namespace) -> int:
    settings = config.load(options.config, options.set)
    stages = plan.plan(run.prepare(settings, options.store, options.until))
    if options.json:
        print(json.dumps({"stages": stages}))
        return DONE
    for stage, entry in stages.items():
        print(f"{stage:15}  {entry['run']:4} would run  {entry['reuse']:4} reused")
        for reason in entry["reasons"]:
            print(f"{'':17}{reason}")
    return DONE


def _status(options: argparse.Namespace) -> int:
    settings = config.load(options.config, options.set)
    stages = plan.plan(run.prepare(settings, options.store, "Report"))
    done = {name: {"done": entry["reuse"], "missing": entry["run"]} for name, entry in stages.items()}
    complete = not any(entry["missing"] for entry in done.values())
    if options.json:
        print(json.dumps({"complete": complete, "stages": done}))
    else:
        for name, entry in done.items():
            print(f"{name:15}  {entry['done']:4} done  {entry['missing']:4} missing")
    return DONE if complete else NO


def _check(options: argparse.Namespace) -> int:
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


def _score(options: argparse.Namespace) -> int:
    from pipeline import score  # here, since it loads torch

    document = score.score(options.truth, options.predictions)
    if options.json:
        print(json.dumps(document))
        return DONE
    _print_scores(document["protocols"])
    if document["without_prediction"]:
        print(f"{document['without_prediction']} images have no prediction and count as predicted empty")
    return DONE


def _export(options: argparse.Namespace) -> int:
    settings = config.load(options.config, options.set)
    with Progress("export") as progress:
        done = exchange.export(settings, options.store, options.to, options.workers, progress.update)
    if options.json:
        print(json.dumps({"to": str(options.to), **dataclasses.asdict(done)}))
        return DONE
    rows = ", ".join(f"{count} {role} samples" for role, count in done.samples.items())
    print(f"{options.to}: {rows} of {done.bytes_per_row} bytes; {done.written} written now")
    return DONE


def _import(options: argparse.Namespace) -> int:
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


def _diff(options: argparse.Namespace) -> int:
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


def _miniature(options: argparse.Namespace) -> int:
    settings = config.load(options.config, options.set)
    if settings.miniature is None:
        raise config.ConfigError(f"config {options.config} has no section [miniature]")
    if options.to.exists():
        raise config.ConfigError(f"--to {options.to} exists; give a folder that does not")
    miniature.write(settings.miniature, options.to)
    if options.json:
        print(json.dumps({"root": str(options.to)}))
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="acga",
        description="From raw videos and sentences to masks, every stage cached.",
        epilog="example: acga run configs/miniature.toml",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, text: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, epilog=f"example: {example}")
        sub.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file of configs/")
        sub.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override one key")
        sub.add_argument("--store", type=Path, default=Path("store"), help="where artifacts lie (default: ./store)")
        sub.add_argument("--json", action="store_true", help="one JSON document on standard output")
        sub.set_defaults(command=command)
        return sub

    names = [stage.__name__ for stage in STAGES]
    runs = add(
        "run", _run, "Run every stage that is not there yet.", "acga run configs/a2d.toml --set training.epochs=12"
    )
    runs.add_argument("--until", choices=names, default="Report", help="the last stage (default: Report)")
    runs.add_argument("--workers", type=_positive, default=os.cpu_count(), help="tasks at a time (default: cores)")
    runs.add_argument("--scheduler", metavar="URL", help="a luigid that several hosts share (default: none needed)")
    plans = add("plan", _plan, "Say what would run, and why; run nothing.", "acga plan configs/a2d.toml")
    plans.add_argument("--until", choices=names, default="Report", help="the last stage (default: Report)")
    add("status", _status, "Say which stages are done; exit 1 if any is not.", "acga status configs/a2d.toml")
    checks = add(
        "check", _check, "Is the data set whole? Exit 1 if not.", "acga check configs/a2d.toml --sheet s.png --video ID"
    )
    checks.add_argument("--fast", action="store_true", help="do not decode the videos")
    checks.add_argument("--workers", type=_positive, default=os.cpu_count(), help="videos at a time (default: cores)")
    checks.add_argument("--sheet", type=Path, metavar="OUT.png", help="write the frames and masks of one video instead")
    checks.add_argument("--video", metavar="ID", help="the video of --sheet")
    exports = add(
        "export",
        _export,
        "Write the samples in the layout of the authors' code.",
        "acga export configs/a2d.toml --to DIR",
    )
    exports.add_argument("--to", type=Path, required=True, metavar="DIR", help="new, empty, or an unfinished export")
    exports.add_argument("--workers", type=_positive, default=os.cpu_count(), help="tasks at a time (default: cores)")
    text = "Take a folder in the layout of the authors' code as the features of a run."
    imports = commands.add_parser("import", help=text, description=text, epilog="example: acga import ACGA/dataset/A2D")
    imports.add_argument("folder", type=Path, metavar="DIR", help="train.txt, test.txt and the HDF5 files")
    imports.add_argument("--config", type=Path, default=REFERENCE, help="default: configs/reference.toml")
    imports.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override one key")
    imports.add_argument("--store", type=Path, default=Path("store"), help="where artifacts lie (default: ./store)")
    imports.add_argument("--workers", type=_positive, default=os.cpu_count(), help="tasks at a time (default: cores)")
    imports.add_argument("--json", action="store_true", help="one JSON document on standard output")
    imports.set_defaults(command=_import)
    text = "Name the first stage in which two sets of features differ; exit 1 if they do."
    diffs = commands.add_parser("diff", help=text, description=text, epilog="example: acga diff ours/ theirs/")
    sides = "an artifact of VisualFeatures or Imported, a folder in the authors' layout, or a config for its raw videos"
    diffs.add_argument("a", type=Path, metavar="A", help=sides)
    diffs.add_argument("b", type=Path, metavar="B", help="the same")
    diffs.add_argument("--clips", type=_positive, default=3, help="clips to replay (default: 3)")
    diffs.add_argument("--seed", type=int, default=0, help="which (default: 0)")
    diffs.add_argument("--set", action="append", default=[], metavar="section.key=value", help="of a config")
    diffs.add_argument("--store", type=Path, default=Path("store"), help="of a config (default: ./store)")
    diffs.add_argument("--json", action="store_true", help="one JSON document on standard output")
    diffs.set_defaults(command=_diff)
    text = "Score given masks in COCO's formats under both protocols."
    example = "example: acga score --truth truth.json --predictions predictions.json"
    scores = commands.add_parser("score", help=text, description=text, epilog=example)
    scores.add_argument("--truth", type=Path, required=True, metavar="GT.json", help="images, and one annotation each")
    scores.add_argument("--predictions", type=Path, required=True, metavar="PRED.json", help="a list of results")
    scores.add_argument("--json", action="store_true", help="one JSON document on standard output")
    scores.set_defaults(command=_score)
    made = add("miniature", _miniature, "Write the generated data set.", "acga miniature configs/tiny.toml --to tiny")
    made.add_argument("--to", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _metrics(roots: list[Stage]) -> dict[str, Any]:
    path = _published(roots, "metrics.json")
    return json.loads(path.read_text(encoding="utf-8"))["protocols"] if path else {}


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


def _refuse(error: object, code: int) -> int:
    print(f"acga: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
