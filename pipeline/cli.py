"""The command `acga`: its arguments; what they ask for is done and printed in `pipeline.commands`.

Exit codes: 0 done, 1 the answer is no, 2 usage or config, 3 a stage failed. With --json, one document goes to
standard output; everything else goes to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import disk, run
from pipeline.artifact import StoreError
from pipeline.commands import (
    FAILED,
    USAGE,
    do_check,
    do_diff,
    do_export,
    do_import,
    do_miniature,
    do_plan,
    do_run,
    do_score,
    do_status,
    do_why,
)
from pipeline.graph import STAGES
from pipeline.model_commands import do_compare, do_segment
from pipeline.stage import speak
from pipeline.store_commands import do_adopt, do_gc

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


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
        if (trouble := disk.trouble(error)) is not None:
            return _refuse(trouble, FAILED)
        if (unusable := disk.unusable(error)) is not None:
            return _refuse(unusable, USAGE)
        if type(error).__module__.partition(".")[0] not in ("data", "extractors", "models", "pipeline"):
            raise
        return _refuse(error, USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="acga",
        description="From raw videos and sentences to masks, every stage cached.",
        epilog="example: acga run configs/miniature.toml",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, text: str, example: str) -> argparse.ArgumentParser:
        return described(commands.add_parser(name, help=text, description=text, epilog=f"example: {example}"), command)

    def described(sub: argparse.ArgumentParser, command: Any) -> argparse.ArgumentParser:
        sub.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file of configs/")
        sub.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override one key")
        sub.add_argument("--store", type=Path, default=Path("store"), help="where artifacts lie (default: ./store)")
        sub.add_argument("--json", action="store_true", help="one JSON document on standard output")
        sub.set_defaults(command=command)
        return sub

    names = [stage.__name__ for stage in STAGES]
    runs = add(
        "run", do_run, "Run every stage that is not there yet.", "acga run configs/a2d.toml --set training.epochs=12"
    )
    runs.add_argument("--until", choices=names, default="Report", help="the last stage (default: Report)")
    runs.add_argument("--workers", type=_positive, default=os.cpu_count(), help="tasks at a time (default: cores)")
    runs.add_argument("--seeds", type=_positive, metavar="N", help="train N networks, and report the spread of scores")
    runs.add_argument("--verify", action="store_true", help="read everything first, and build again what is damaged")
    runs.add_argument("--scheduler", metavar="URL", help="a luigid that several hosts share (default: none needed)")
    plans = add("plan", do_plan, "Say what would run, and why; run nothing.", "acga plan configs/a2d.toml")
    plans.add_argument("--until", choices=names, default="Report", help="the last stage (default: Report)")
    text = "Say for each task of one stage whether it would run, and why."
    why = commands.add_parser(
        "why", help=text, description=text, epilog="example: acga why TrainedModel configs/a2d.toml"
    )
    why.add_argument("stage", choices=names, metavar="STAGE", help=", ".join(names))
    described(why, do_why)
    add("status", do_status, "Say which stages are done; exit 1 if any is not.", "acga status configs/a2d.toml")
    checks = add(
        "check",
        do_check,
        "Is the data set whole? Exit 1 if not.",
        "acga check configs/a2d.toml --sheet s.png --video X",
    )
    checks.add_argument("--fast", action="store_true", help="do not decode the videos")
    checks.add_argument("--workers", type=_positive, default=os.cpu_count(), help="videos at a time (default: cores)")
    checks.add_argument("--sheet", type=Path, metavar="OUT.png", help="write the frames and masks of one video instead")
    checks.add_argument("--video", metavar="ID", help="the video of --sheet")
    exports = add(
        "export",
        do_export,
        "Write the samples in the layout of the authors' code.",
        "acga export configs/a2d.toml --to DIR",
    )
    exports.add_argument("--to", type=Path, required=True, metavar="DIR", help="new, empty, or an unfinished export")
    exports.add_argument("--workers", type=_positive, default=os.cpu_count(), help="tasks at a time (default: cores)")
    text = "Take a folder in the layout of the authors' code as the features of a run."
    imports = commands.add_parser("import", help=text, description=text, epilog="example: acga import ACGA/dataset/A2D")
    imports.add_argument("folder", type=Path, metavar="DIR", help="train.txt, test.txt and the HDF5 files")
    imports.add_argument(
        "--config", type=Path, default=CONFIGS / "reference.toml", help="default: configs/reference.toml"
    )
    imports.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override one key")
    imports.add_argument("--store", type=Path, default=Path("store"), help="where artifacts lie (default: ./store)")
    imports.add_argument("--workers", type=_positive, default=os.cpu_count(), help="tasks at a time (default: cores)")
    imports.add_argument("--json", action="store_true", help="one JSON document on standard output")
    imports.set_defaults(command=do_import)
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
    diffs.set_defaults(command=do_diff)
    _add_model_commands(commands)
    _add_store_commands(commands, described, names)
    _add_audit(add)
    text = "Score given masks in COCO's formats under both protocols."
    example = "example: acga score --truth truth.json --predictions predictions.json"
    scores = commands.add_parser("score", help=text, description=text, epilog=example)
    scores.add_argument("--truth", type=Path, required=True, metavar="GT.json", help="images, and one annotation each")
    scores.add_argument("--predictions", type=Path, required=True, metavar="PRED.json", help="a list of results")
    scores.add_argument("--json", action="store_true", help="one JSON document on standard output")
    scores.set_defaults(command=do_score)
    made = add("miniature", do_miniature, "Write the generated data set.", "acga miniature configs/tiny.toml --to tiny")
    made.add_argument("--to", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
    return parser


def _add_model_commands(commands: Any) -> None:
    text = "Segment the actors that sentences describe in any video, by a trained network."
    example = "example: acga segment dog.mp4 --query 'the dog on the right' --to masks"
    segments = commands.add_parser("segment", help=text, description=text, epilog=example)
    segments.add_argument("video", type=Path, metavar="VIDEO", help="a video file, or a folder of PNG frames")
    segments.add_argument("--query", action="append", required=True, metavar="TEXT", help="a sentence; may be repeated")
    segments.add_argument("--to", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
    segments.add_argument(
        "--frame", type=_positive, action="append", default=[], metavar="N", help="counted from 1; may be repeated"
    )
    segments.add_argument(
        "--every", type=_positive, default=8, metavar="N", help="or every so many frames (default: 8)"
    )
    segments.add_argument("--config", type=Path, default=CONFIGS / "miniature.toml", help="default: the demo's")
    segments.add_argument("--model", type=Path, metavar="FILE", help="weights, if not those of the config in the store")
    comparisons = commands.add_parser(
        "compare",
        help="Put the scores of several experiments side by side.",
        description="Put the scores of several experiments side by side, with paired intervals of the differences.",
        epilog="example: acga compare configs/ablation_fcn.toml configs/a2d.toml",
    )
    comparisons.add_argument("configs", type=Path, nargs="+", metavar="CONFIG", help="the first one is the baseline")
    for sub, command in ((segments, do_segment), (comparisons, do_compare)):
        sub.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override one key")
        sub.add_argument("--store", type=Path, default=Path("store"), help="where artifacts lie (default: ./store)")
        sub.add_argument("--json", action="store_true", help="one JSON document on standard output")
        sub.set_defaults(command=command)


def _add_store_commands(commands: Any, described: Any, names: list[str]) -> None:
    text = "List what no given config reaches and what killed runs left; delete nothing unless asked to."
    example = "example: acga gc configs/a2d.toml configs/jhmdb.toml --delete"
    garbage = commands.add_parser("gc", help=text, description=text, epilog=example)
    garbage.add_argument("configs", type=Path, nargs="+", metavar="CONFIG", help="what they reach is kept")
    what = garbage.add_mutually_exclusive_group()
    what.add_argument("--delete", action="store_true", help="delete it")
    what.add_argument("--evict", action="append", default=[], choices=names, metavar="STAGE", help="drop its files")
    what.add_argument("--pin", action="store_true", help="keep what the configs reach, whatever is given later")
    what.add_argument("--unpin", action="store_true", help="the opposite")
    garbage.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override one key")
    garbage.add_argument("--store", type=Path, default=Path("store"), help="where artifacts lie (default: ./store)")
    garbage.add_argument("--json", action="store_true", help="one JSON document on standard output")
    garbage.set_defaults(command=do_gc)
    text = "After a change of code: let old artifacts of a stage stand, if a sample comes out equal; exit 1 if not."
    example = "example: acga adopt VisualFeatures configs/a2d.toml --sample 3"
    adopts = commands.add_parser("adopt", help=text, description=text, epilog=example)
    adopts.add_argument("stage", choices=names, metavar="STAGE", help=", ".join(names))
    described(adopts, do_adopt)
    adopts.add_argument("--sample", type=_positive, default=3, help="tasks to build anew and compare (default: 3)")
    adopts.add_argument("--seed", type=int, default=0, help="which (default: 0)")
    adopts.add_argument("--workers", type=_positive, default=os.cpu_count(), help="tasks at a time (default: cores)")
    adopts.add_argument("--revoke", action="store_true", help="undo earlier adoptions of this stage instead")


def _do_audit(options: argparse.Namespace) -> int:
    from pipeline.audit.commands import do_audit  # here, since it loads numpy and OpenCV

    return do_audit(options)


def _add_audit(add: Any) -> None:
    audits = add(
        "audit",
        _do_audit,
        "Check everything behind a report: inputs, code, environment, manifests, files, results; exit 1 on FAIL.",
        "acga audit configs/a2d.toml --rebuild 1",
    )
    audits.add_argument("--rebuild", default="0", metavar="N|P%|all", help="tasks a stage to build again (default: 0)")
    audits.add_argument("--full", action="store_true", help="build everything again in a second store")
    audits.add_argument("--steps", type=int, default=8, help="of training to replay; 0: all (default: 8)")
    audits.add_argument("--seed", type=int, default=0, help="of the sample that is built again (default: 0)")
    audits.add_argument("--workers", type=_positive, default=os.cpu_count(), help="of --full (default: cores)")
    audits.add_argument("--strict", action="store_true", help="exit 1 on anything but PASS and WAIVED")
    audits.add_argument("--waive", action="append", default=[], metavar="CHECK=REASON", help="accept a check's verdict")
    audits.add_argument("--certificate", type=Path, metavar="OUT.json", help="write the certificate")
    audits.add_argument("--compare", type=Path, metavar="THEIRS.json", help="name where another certificate parts")
    audits.add_argument("--bundle", type=Path, metavar="DIR", help="write the evidence as an RO-Crate")
    audits.add_argument("--to", type=Path, metavar="DIR", help="of audit.html and .json (default: <store>/audit)")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _refuse(error: object, code: int) -> int:
    print(f"acga: {' '.join(str(error).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
