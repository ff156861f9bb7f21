"""What the commands about trained models print: `acga segment` and `acga compare`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from pipeline import config
from pipeline.commands import DONE
from pipeline.progress import Progress


def do_segment(options: argparse.Namespace) -> int:
    """Write the masks of a video for some sentences."""
    from pipeline import segment  # here, since it loads torch

    settings = config.load(options.config, options.set)
    if "seeded" in (settings.visual.weights, settings.visual.flow_weights)[: len(settings.streams)]:
        print("the trunk has random weights (visual.weights = 'seeded'): these masks mean nothing", file=sys.stderr)
    request = segment.Request(
        options.video, tuple(options.query), options.to, tuple(options.frame), options.every, options.model
    )
    with Progress("segment") as progress:
        found = segment.segment(settings, options.store, request, progress.update)
    if options.json:
        print(json.dumps({"to": str(options.to), **found}))
        return DONE
    for query in options.query:
        of_query = [entry for entry in found["masks"] if entry["query"] == query]
        seen = [entry["confidence"] for entry in of_query if entry["confidence"] > 0]
        said = f"seen in {len(seen)} of {len(of_query)} frames"
        print(f"{query}: {said}" + (f", mean confidence {sum(seen) / len(seen):.2f}" if seen else ""))
    if found["words_without_vector"]:
        print(f"words without a vector: {', '.join(found['words_without_vector'])}")
    print(f"masks, masks.json and overview.png: {options.to}")
    return DONE


def do_compare(options: argparse.Namespace) -> int:
    """Print the scores of several experiments side by side, and how far each lies from the first."""
    from pipeline import compare  # here, since it loads numpy

    settings = {str(path): config.load(path, options.set) for path in options.configs}
    found = compare.compare(settings, options.store)
    if options.json:
        print(json.dumps(found))
        return DONE
    for protocol, rows in found["protocols"].items():
        print(protocol)
        for name, row in rows.items():
            scores = row["scores"]
            line = f"  {name:32}  mean IoU {scores['mean_iou']:.3f}   overall IoU {scores['overall_iou']:.3f}"
            print(f"{line}   P@0.5 {scores['precision']['0.5']:.3f}   mAP {scores['map']:.3f}{_difference(row)}")
    if any(_difference(row) for row in found["protocols"].get("acga", {}).values()):
        print("last column: mean IoU against the first, with the 95 % interval over videos (the same for both)")
    for text in found["not_compared"]:
        print(text)
    return DONE


def _difference(row: Mapping[str, Any]) -> str:
    """The difference to the first experiment with its interval, where there is one."""
    if row["difference"] is None:
        return ""
    low, high = row["interval"]
    return f"   {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
