"""The ladder as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mytnano.designs.budgets import Budget

BASELINE_NAMES = {
    "uniform": "uniform",
    "unigram": "unigram",
    "bigram": "bigram",
    "kneser-ney-5": "5-gram",
    "xz": "xz",
    "zstd": "zstd",
}
"""Closed-form baselines, as tables and figures call them."""

HIDDEN = ("depth",)
"""Groups whose runs are the cells of a figure, and score no test text."""

Row = dict[str, Any]


def print_table(
    rows: Sequence[Row], baselines: Sequence[Row], budget: Budget, console: Console
) -> None:
    """Print the ladder in bits per byte.

    Args:
        rows: of results, in ladder order.
        baselines: closed forms fitted on the bytes that a run saw, as dicts.
    """
    shown = [row for row in rows if row["group"] not in HIDDEN]
    table = Table(title=_title(budget), title_justify="left", box=SIMPLE_HEAD)
    if baselines:
        table.caption = "Closed forms are fitted on the bytes that a run of seed 0 saw."
        table.caption_justify = "left"
    for name in ("rung", "vocabulary", "parameters", "BPB", "seeds", "status"):
        right = name in ("vocabulary", "parameters", "BPB", "seeds")
        # Where the terminal is narrow, a long name is folded, and no number is cut.
        fold = name == "rung"
        side = "right" if right else "left"
        table.add_column(name, justify=side, no_wrap=not fold, overflow="fold")
    for baseline in baselines:
        name = BASELINE_NAMES[baseline["name"]]
        words = (name, "", "", f"{baseline['bpb']:.3f}", "", "closed form")
        table.add_row(*words, style="dim")
    for id in dict.fromkeys(row["rung"] for row in shown):
        runs = [row for row in shown if row["rung"] == id]
        sizes = (f"{runs[0]['vocab_size']:,}", f"{runs[0]['params']:,}")
        table.add_row(id, *sizes, *_scores(runs), _status(runs))
    console.print(table)


def _title(budget: Budget) -> str:
    title = "Bits per byte of test text, lower is better"
    if budget.comparable:
        return title
    return f"{title} (first {budget.test_bytes // 1024} KiB only: not comparable)"


def _scores(runs: list[Row]) -> tuple[str, str]:
    """Mean and range over the seeds; no mean of survivors if one has no score."""
    scores = [run["test_bpb"] for run in runs]
    if None in scores:
        return "-", ""
    spread = f"{min(scores):.3f}..{max(scores):.3f}" if len(scores) > 1 else ""
    return f"{sum(scores) / len(scores):.3f}", spread


def _status(runs: list[Row]) -> str:
    return ", ".join(sorted({run["status"] for run in runs}))
