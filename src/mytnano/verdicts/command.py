"""The verb `mytnano verdict`: read, ask, judge, say."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.stats.multiplier import compute_multiplier
from mytnano.stats.verdict import Rule, Verdict, judge
from mytnano.terminal import tell
from mytnano.verdicts import words
from mytnano.verdicts.question import Question, Side, build, choose_arms, choose_baseline
from mytnano.verdicts.table import arms_of, read_runs, read_table


@dataclass(frozen=True)
class Request:
    """What was asked on the command line.

    Attributes:
        path: the CSV file.
        rule: how to decide.
        baseline: an arm; None is the one called ``baseline``, else the first.
        compare: arms to judge; none named means all but the baseline.
        metric, arm_column, seed_column: names of columns.
        json: where to write everything; None for nowhere.
    """

    path: Path
    rule: Rule
    baseline: str | None = None
    compare: tuple[str, ...] = ()
    metric: str = "metric"
    arm_column: str = "arm"
    seed_column: str = "seed"
    json: Path | None = None


def give_verdicts(request: Request, console: Console) -> list[Verdict]:
    """Judge the arms of a file, and print a sentence an arm and a table.

    Raises:
        UserError: the file or the request cannot be judged; nothing was printed then.
    """
    table = read_table(request.path)
    names = arms_of(table, request.arm_column)
    baseline, baseline_note = choose_baseline(names, request.baseline)
    arms, arms_note = choose_arms(names, baseline, request.compare)
    columns = request.arm_column, request.metric, request.seed_column
    runs = read_runs(table, [baseline, *arms], *columns)
    question = build(runs, baseline, arms, request.rule.higher_is_better, request.rule.fixed)
    verdicts = judge(question.pairs(), request.rule)
    worth, worth_notes = _worth(question, verdicts, request.rule)
    notes = [note for note in (baseline_note, arms_note) if note]
    notes += [*question.notes, *worth_notes, *_seed_notes(verdicts)]
    said = [
        words.sentence(verdict, baseline, request.rule, each)
        for verdict, each in zip(verdicts, worth, strict=True)
    ]
    if request.json:
        rows = [
            words.as_json(v, s, w) | _side_json(arm)
            for v, s, w, (arm, _) in zip(verdicts, said, worth, question.arms, strict=True)
        ]
        atomic_write_json(request.json, _document(request, question, notes, rows))
    head = words.explained(baseline, request.metric, request.rule, len(arms))
    for line in [*said, "", *head, *(f"note: {note}" for note in notes)]:
        tell(console, line)
    console.print(words.verdict_table(verdicts, worth))
    return verdicts


def _worth(
    question: Question, verdicts: list[Verdict], rule: Rule
) -> tuple[list[words.Worth | None], list[str]]:
    """The compute multiplier of each arm, where the baseline has more than one level."""
    if len(question.baseline) < 2:
        return [None] * len(verdicts), []
    found: list[words.Worth | None] = []
    for verdict, (arm, level) in zip(verdicts, question.arms, strict=True):
        try:
            found.append(_multiplier(question, verdict, arm, level, rule))
        except UserError as error:
            return [None] * len(verdicts), [str(error)]
    notes = []
    if any(each and each.value.pooled for each in found):
        notes.append(
            "the baseline's loss rises with compute in places; it was made monotone for the "
            "compute multiplier"
        )
    return found, notes


def _multiplier(
    question: Question, verdict: Verdict, arm: Side, level: Side, rule: Rule
) -> words.Worth | None:
    if arm.status or arm.flops is None:
        return None

    def loss(metric: float) -> float:
        return 1 / metric if rule.higher_is_better else metric

    compute = [side.flops or math.nan for side in question.baseline]
    losses = [loss(side.mean()) for side in question.baseline]
    # The ends of the interval, moved to the arm's metric; an endless one reaches any loss.
    ends = [level.mean() * (1 + end / 100) for end in (verdict.low, verdict.high)]
    if any(not 0 < end < math.inf for end in ends):
        return None
    worst, best = ends if rule.higher_is_better else reversed(ends)
    # An arm with fewer seeds than the curve: what those seeds do to both is taken out.
    own = arm.mean() * (level.mean() / level.mean(list(arm.runs)))
    values = [
        compute_multiplier(compute, losses, loss(metric), arm.flops)
        for metric in (own, worst, best)
    ]
    return words.Worth(*values)


def _seed_notes(verdicts: list[Verdict]) -> list[str]:
    return [
        f"every pair of {v.name} differs by the same amount; check that the seed reaches the "
        "training and that the metric is not rounded"
        for v in verdicts
        if v.constant and v.verdict != "identical"
    ]


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "lr": side.lr,
        "lrs_tried": list(side.tried),
        "flops": side.flops,
        "seeds": list(side.runs),
        "mean": side.mean(),
    }


def _document(
    request: Request, question: Question, notes: list[str], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    levels = [{"name": side.name} | _side_json(side) for side in question.baseline]
    return {
        "file": str(request.path),
        "metric": request.metric,
        "rule": asdict(request.rule),
        "baseline": levels,
        "notes": notes,
        "arms": rows,
    }
