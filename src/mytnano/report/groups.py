"""What the report shows of an extended group: its figure, its table, and who decides."""

from __future__ import annotations

from typing import Any

from mytnano import words
from mytnano.designs.families import BASE, EXTENDED, stand_ins
from mytnano.designs.groups import PASSES, WIDER_GROUPS, Group, members_of, passes, rate_of
from mytnano.designs.rung import Rung
from mytnano.designs.rungs import KNOWN, design
from mytnano.report import compare
from mytnano.report.data import Arm, Results
from mytnano.report.group_figures import Point, axis_figure, rows_figure

EQUAL_BYTES, EQUAL_FLOPS = "equal bytes", "equal FLOPs"

NEAR = 0.05
"""Share of its FLOPs within which a run has those of another; a short run has few steps."""


def group_views(results: Results) -> list[dict[str, Any]]:
    """A view for each group of which one of its own rungs and another member were run."""
    shown = [group for group in WIDER_GROUPS.values() if was_run(results, group)]
    return [view(results, group) | {"figure": figure(results, group)} for group in shown]


def was_run(results: Results, group: Group) -> bool:
    """Whether there is something to see beside each other."""
    run = [id for id in group.ids if id in results.arms]
    return len(run) > 1 and any(id in results.arms for id in members_of(group))


def view(results: Results, group: Group) -> dict[str, Any]:
    """Everything that a section about a group shows but its figure."""
    arms = [results.arms[id] for id in group.ids if id in results.arms]
    rows = [row(results, group, arm) for arm in arms]
    return {
        "group": group,
        "base": group.base,
        "rows": rows,
        "has_pairs": any(line["pairs"] for line in rows),
        "missing": [group.members[id] for id in group.ids if id not in results.arms],
        "decode": decode(results, group),
        "caution": compare.caution(max(len(arm.runs) for arm in arms)),
    }


def figure(results: Results, group: Group) -> Any:
    """Rows for kinds; for numbers an axis, and a panel beside it for runs at equal FLOPs."""
    found = [(id, results.arms[id]) for id in group.ids if id in results.arms]
    points = {id: point(results, group, id, arm) for id, arm in found}
    if group.axis is None:
        return rows_figure(group.name, list(points.values()))
    matched = [id for id in points if KNOWN[id].equal_flops]
    if not matched:
        return axis_figure(group.name, group.axis.name, [("", list(points.values()))])
    equal_bytes = [each for id, each in points.items() if id not in matched]
    middle = middle_of(results, results.arms[matched[0]])  # the same run in both views
    equal_flops = [each for id, each in points.items() if id in matched or id == middle]
    title = f"{EQUAL_FLOPS}, those of {group.members[middle]} tokens" if middle else EQUAL_FLOPS
    panels = [(EQUAL_BYTES, equal_bytes), (title, equal_flops)]
    return axis_figure(group.name, group.axis.name, panels)


def middle_of(results: Results, arm: Arm) -> str | None:
    """The rung whose FLOPs an arm was given, if it was run: on a short text a smaller one."""
    named = arm.rung.equal_flops
    if named is None or named in results.arms:
        return named
    flops = arm.mean("flops") or 0.0
    for id in stand_ins(named):
        other = results.arms.get(id)
        if other and abs((other.mean("flops") or 0.0) - flops) <= NEAR * flops:
            return id
    return None


def point(results: Results, group: Group, id: str, arm: Arm) -> Point:
    """Where a rung stands in its group's figure."""
    place = 0.0
    if group.axis is not None:
        model = design(id).model.model_dump()
        row = arm.runs[0].row | {PASSES: times_read(results, arm)}
        place = float(group.axis.place(arm.rung, row, model))
    line = group.lines[id] if group.lines else ""
    return Point(label(results, group, arm), arm, place, line, id == group.base)


def label(results: Results, group: Group, arm: Arm) -> str:
    """An arm's name in its group; where that tells how often it read its text, as it did."""
    if group.lines is None:
        return group.members[arm.rung.id]
    return f"{group.lines[arm.rung.id]}, read {times_read(results, arm):g} x"


def times_read(results: Results, arm: Arm) -> float:
    """How often an arm's runs read their text."""
    rung, read = arm.rung, arm.mean("train_bytes") or 0.0
    size = results.budget.get("train_bytes") or read
    return passes(rung, read, size, (results.corpus.get("bytes") or {}).get("train"))


def row(results: Results, group: Group, arm: Arm) -> dict[str, Any]:
    """One line of the group's table."""
    base = arm.rung.id == group.base
    other = middle_of(results, arm) if arm.rung.equal_flops else compared_with(group, arm.rung)
    paired = compare.pairs(arm, results.arms.get(other or ""))
    return {
        "arm": arm,
        "label": label(results, group, arm),
        "base": base,
        "flops_matched": bool(arm.rung.equal_flops),
        "rate": rate_words(results, arm),
        "pairs": paired,
        "other": other if other != group.base else None,
    }


def compared_with(group: Group, rung: Rung) -> str | None:
    """The rung beside which another of its group stands; None for the group's base."""
    if rung.id == group.base:
        return None
    if rung.equal_flops:
        return rung.equal_flops
    return group.base if rung.parent == BASE or rung.id not in EXTENDED else rung.parent


def rate_words(results: Results, arm: Arm) -> str:
    """How the learning rate was come by; never a rate without its origin."""
    rung = arm.rung
    if rung.id not in EXTENDED:
        return "the ladder’s"
    how = rate_of(rung)
    if how == "scaled":
        return f"{rung.parent}’s, scaled by the bytes"
    if how == "inherited":
        return f"{rung.parent}’s, which {rung.like} did not move"
    entry = results.group_rates.get(rung.id)
    if not entry or entry.get("lr") != arm.runs[0].row.get("lr"):
        return "not recorded"
    shape = "flat" if entry["flat"] else "interior" if entry["interior"] else "at the edge"
    return f"tuned: {len(entry['points'])} rates, {shape}"


def decode(results: Results, group: Group) -> dict[str, Any] | None:
    """Cache and speed of writing, for the group that was raced; None if it was not."""
    rows = (results.decode or {}).get("rows") or []
    if not rows or not results.decode or not {row["rung"] for row in rows} & set(members_of(group)):
        return None
    lengths = sorted({row["positions"] for row in rows})
    speeds = {(row["rung"], row["positions"]): row["tokens_per_second"] for row in rows}
    kinds = {row["rung"]: row["kv_bytes_per_token"] for row in rows}
    named = [id for id in group.ids if id in kinds]
    hardware = (results.decode.get("environment") or {}).get("hardware") or "unrecorded hardware"
    return {
        "lengths": lengths,
        "rows": [
            (group.members[id], kinds[id], [speeds.get((id, n)) for n in lengths]) for id in named
        ],
        "conditions": f"{results.decode.get('texts')} texts at a time, of each three quarters "
        f"read and the rest written; medians of {results.decode.get('rounds')} rounds; "
        f"{words.quantity(results.decode.get('threads'))} thread, fp32, {hardware}",
    }
