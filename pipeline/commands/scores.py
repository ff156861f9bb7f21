"""Scores as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click


def score_line(scores: Mapping[str, Any]) -> str:
    """The four figures of one protocol on one line."""
    return (
        f"mean IoU {scores['mean_iou']:.3f}   overall IoU {scores['overall_iou']:.3f}"
        f"   P@0.5 {scores['precision']['0.5']:.3f}   mAP {scores['map']:.3f}"
    )


def print_scores(protocols: Mapping[str, Any]) -> None:
    """Print one line a protocol."""
    for protocol, scores in protocols.items():
        click.echo(f"{protocol:15}  {score_line(scores)}   ({scores['samples']} samples)")
