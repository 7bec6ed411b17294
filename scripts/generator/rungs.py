"""Regions about single rungs: the change, its source, the log's claim, and what was measured."""

from __future__ import annotations

from collections.abc import Iterable

from generator.ladder import COMMANDS, absent, published, struck
from generator.tables import Project, bullets, conditions, paragraphs, plain, table
from mytnano import words
from mytnano.designs.rungs import DEPTH_RATES, DEPTHS, GROUPS, RUNGS, Rung
from mytnano.report import compare
from mytnano.report.data import Arm, Results
from mytnano.report.explain import code_of

HOW_TO_READ_LONG = (
    "How to read it: Beside the compressors and the 5-gram. It is larger than the other rungs, "
    "sees more text and has a longer window, so what it gains is not the gain of a design."
)


def rung(project: Project, id: str) -> str:
    """Everything about one rung that is not an opinion: its change, its sources, its numbers.

    The conditions are those of the budget's table; a line has its own if they are others.
    """
    found = RUNGS[id]
    lines = [*_change_lines(found), *_source_lines(found)]
    for budget in COMMANDS:
        results = published(project, budget)
        arm = results.arms.get(id) if results else None
        if results and arm:
            lines.append(_measured(results, arm, budget))
    if all(published(project, budget) is None for budget in COMMANDS):
        lines.append(absent("quick"))
    return paragraphs(found.why, bullets(lines))


def _change_lines(rung: Rung) -> Iterable[str]:
    if rung.parent is None:
        yield "The start: there is nothing that it changes."
        return
    parent = RUNGS[rung.parent]
    for change in compare.changes(rung):
        if not change.chosen:
            continue
        help = f" ({plain(change.help)})" if change.help else ""
        yield (
            f"`{change.setting}`: {change.before} → {change.after}, from "
            f"[`{parent.id}`](#{parent.id}){help}"
        )


def _source_lines(rung: Rung) -> Iterable[str]:
    if rung.paper:
        yield f"Source: {rung.paper}."
    if claim := compare.claim(rung):
        unit = f"nats per {claim.unit}" if claim.unit else f"nats {compare.ABOVE_GUESSING}"
        accuracy = f", accuracy {words.percent(claim.accuracy)}" if claim.accuracy else ""
        said = f": “{claim.text}”" if claim.text else ""
        yield f"The log, “{rung.logged.name}”: {claim.loss:.4f} {unit}{accuracy}{said}."
    names = ", ".join(f"`mytnano.{name}`" for name in code_of(rung))
    yield f"Code: {names}."


def _measured(results: Results, arm: Arm, budget: str) -> str:
    seeds = [struck(words.number(run.bpb), run.healthy) for run in arm.runs]
    lr = arm.runs[0].row.get("lr")
    text = f"Measured at `{budget}`: {struck(words.number(arm.mean()), arm.healthy)} BPB"
    text += f" (seeds {', '.join(seeds)})" if len(seeds) > 1 else " (one seed)"
    text += f", {arm.status()}" + (f", LR {words.setting(lr)}" if lr else "") + "."
    paired = compare.pairs(arm, results.parent(arm))
    if paired:
        signs = [
            words.signed(p.difference) + (f" (void: {p.void})" if p.void else "") for p in paired
        ]
        mixed = "".join(f" ({p})" for p in dict.fromkeys(p.precisions for p in paired) if p)
        text += f" Minus `{arm.rung.parent}`, seed by seed{mixed}: {', '.join(signs)}."
    others = results.exceptions(arm)
    told = [(seed, conditions(made)) for seed, made in others]
    told = [f"{seed.capitalize()} {t[0].lower()}{t[1:]}" if seed else t for seed, t in told]
    return " ".join([text, *dict.fromkeys(told)])


def long(project: Project) -> str:
    """The section of each rung of the group ``long`` that was run; nothing where none was."""
    made = [results for budget in COMMANDS if (results := published(project, budget))]
    ids = dict.fromkeys(arm.rung.id for results in made for arm in results.group("long"))
    return paragraphs(*(f"### {id}\n\n{rung(project, id)}\n\n{HOW_TO_READ_LONG}" for id in ids))


def others(project: Project) -> str:
    """The rungs outside the core ladder, group by group."""
    header = ("rung", "from", "what it is", "why")
    parts = []
    for group in GROUPS[1:]:
        rows = [
            (f"`{r.id}`", f"`{r.parent}`", words.title(r.title), r.why)
            for r in RUNGS.values()
            if r.group == group
        ]
        if group == "depth":
            rows = [_depth_summary()]
        parts += [f"Group `{group}`:", table(header, rows)]
    return paragraphs(*parts)


def _depth_summary() -> tuple[str, str, str, str]:
    return (
        "`depth-PATH-BLOCKS-LR`",
        "`stack`, `residual`",
        f"PATH plain or residual, BLOCKS {words.listed([str(n) for n in DEPTHS])}, "
        f"LR {words.listed([f'{lr:g}' for lr in DEPTH_RATES])}",
        "The cells of the depth figure.",
    )
