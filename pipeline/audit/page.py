"""The page audit.html: verdict, checks, lineage graph, what was not checked, and how to repeat the audit."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.audit.audit import Audit
from pipeline.audit.subject import BY_NAME, Subject
from pipeline.audit.verdicts import first_failing
from pipeline.pages.template import render

COLOURS = {"PASS": "#3a7d44", "FAIL": "#b3261e", "DRIFT": "#b26a00", "INCONCLUSIVE": "#5a6572", "WAIVED": "#6b4fa0"}
BOX, GAP, ROW, LANE = (132, 40), 62, 62, 9  # px

TEMPLATE = "audit.html"


def page(audit: Audit, command: str) -> str:
    """Return the page as HTML."""
    facts = {each.letter: each.facts for each in audit.checks}
    return render(
        Path(__file__).with_name(TEMPLATE),
        audit=audit,
        checks=first_failing(audit.checks),
        colours=COLOURS,
        report=str(audit.subject.report.place.folder) if audit.subject.nodes else "(none)",
        picture=Markup(picture(audit)),
        cost=_cost(audit.subject),
        floor=facts["H"].get("noise_floor"),
        adopted=facts["J"].get("adopted", []),
        waived=facts["J"].get("waived", {}),
        command=command,
    )


def _cost(subject: Subject) -> dict[str, float]:
    """Return the seconds, peak memory in MiB and bytes of all artifacts, from their manifests."""
    costs = [node.known["cost"] for node in subject.whole]
    return {
        "seconds": sum(cost["seconds"] for cost in costs),
        "memory": max((cost["peak_memory_mib"] for cost in costs), default=0),
        "bytes": sum(cost["bytes"] for cost in costs),
    }


def picture(audit: Audit) -> str:
    """Draw the graph of the stages and their inputs as SVG."""
    subject = audit.subject
    edges = sorted({(stage, node.place.stage) for node in subject.whole for stage, _, _ in node.known["from"]})
    stages = [stage for stage in BY_NAME if any(node.place.stage == stage for node in subject.nodes)]
    depth: dict[str, int] = {}
    for stage in stages:  # inputs come first
        depth[stage] = max((depth[below] + 1 for below, above in edges if above == stage and below in depth), default=0)
    columns = {level: [stage for stage in stages if depth[stage] == level] for level in sorted(set(depth.values()))}
    places = {
        stage: (20 + level * (BOX[0] + GAP), 20 + row * ROW)
        for level, of_level in columns.items()
        for row, stage in enumerate(of_level)
    }
    width = 40 + len(columns) * (BOX[0] + GAP) - GAP
    below_all = 20 + max((len(of_level) for of_level in columns.values()), default=0) * ROW
    far = [stage for stage in stages if any(depth[up] - depth[stage] > 1 for below, up in edges if below == stage)]
    lanes = {stage: (number, below_all + LANE * number) for number, stage in enumerate(far)}
    height = below_all + LANE * len(far) + 10
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="lineage">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#7b8794"/></marker></defs>',
    ]
    for below, above in edges:
        if below in places and above in places:
            near = depth[above] - depth[below] == 1
            parts.append(_line(places[below], places[above], None if near else lanes[below]))
    parts += [_box(subject, audit, stage, *places[stage]) for stage in stages]
    return "".join([*parts, "</svg>"])


def _line(start: tuple[float, float], end: tuple[float, float], lane: tuple[int, float] | None) -> str:
    """Draw a line from a box to one further right: directly to the next column, else through a lane below all boxes."""
    x, y, to_x, to_y = start[0] + BOX[0], start[1] + BOX[1] / 2, end[0], end[1] + BOX[1] / 2
    if lane is None:
        bend = (x + to_x) / 2
        path = f"M{x} {y} C{bend} {y} {bend} {to_y} {to_x} {to_y}"
    else:
        number, depth = lane
        entry = to_y + 4 + 2 * number  # so that the lines of different lanes do not coincide
        path = f"M{x} {y + 6} H{x + 7 + 5 * number} V{depth} H{to_x - 12 - 5 * number} V{entry} H{to_x}"
    return f'<path d="{path}" fill="none" stroke="#7b8794" stroke-linejoin="round" marker-end="url(#tip)"/>'


def _box(subject: Subject, audit: Audit, stage: str, x: float, y: float) -> str:
    said = [each.verdict for each in audit.checks if any(text.startswith(stage) for text in each.findings)]
    verdict = next((each for each in ("FAIL", "INCONCLUSIVE", "DRIFT") if each in said), "PASS")
    count = sum(node.place.stage == stage for node in subject.nodes)
    name = html.escape(stage)
    return (
        f'<rect x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="5" fill="#fff" stroke="{COLOURS[verdict]}"'
        f' stroke-width="2"/><text x="{x + BOX[0] / 2}" y="{y + 17}" text-anchor="middle" font-size="13">{name}</text>'
        f'<text x="{x + BOX[0] / 2}" y="{y + 33}" text-anchor="middle" font-size="11" fill="#5a6572">{count}'
        f" artifact{'s' if count > 1 else ''}</text>"
    )


def document(audit: Audit) -> str:
    """Return audit.json as text."""
    return json.dumps(audit.document(), indent=1, default=_plain)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
