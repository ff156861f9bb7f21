"""Functions that print scores as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from data.wording import counted


def score_line(scores: Mapping[str, Any]) -> str:
    """Return mean IoU, overall IoU, P@0.5 and mAP of one protocol as one line."""
    return (
        f"mean IoU {scores['mean_iou']:.3f}   overall IoU {scores['overall_iou']:.3f}"
        f"   P@0.5 {scores['precision']['0.5']:.3f}   mAP {scores['map']:.3f}"
    )


def print_scores(protocols: Mapping[str, Any]) -> None:
    """Print one line of scores per protocol."""
    for protocol, scores in protocols.items():
        click.echo(f"{protocol:15}  {score_line(scores)}   ({counted(scores['samples'], 'sample')})")
