"""The figures of the ladder: every seed against the baselines, and what one rung did."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mytnano.designs.budgets import text_size
from mytnano.ladder.table import BASELINE_NAMES as BASELINE_NAMES
from mytnano.report.data import Arm, Results
from mytnano.svg import (
    ACCENT,
    FAINT,
    INK,
    MUTED,
    PAPER,
    RULE,
    WARN,
    axes,
    draw,
    label_ends,
    power_of_ten,
)
from mytnano.words import number, title

ROW = 21.0
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 760.0, 270.0, 140.0, 62.0, 44.0


def short_tokenizer(spec: str) -> str:
    """A tokenizer's name without what every reader of this ladder knows."""
    return spec.removesuffix("-compact")


def mark(
    ax: Axes, x: float, y: float, healthy: bool, colour: str = ACCENT, size: float = 6
) -> None:
    """One seed: a dot, or for a run that is not healthy an empty circle struck through."""
    style = {"color": colour, "ls": "none", "clip_on": False, "zorder": 4}
    if healthy:
        ax.plot([x], [y], marker="o", alpha=0.7, ms=size, mew=0, **style)
        return
    ax.plot([x], [y], marker="o", mfc=PAPER, ms=size, mew=1, **style)
    ax.plot([x], [y], marker=[(-1, -1), (1, 1)], mfc="none", ms=1.7 * size, mew=1, **style)


def ladder_figure(results: Results, arms: Sequence[Arm], best: Arm | None) -> Markup:
    """BPB of every rung in ladder order, one row each, against the closed-form baselines."""
    lines = {
        BASELINE_NAMES[name]: value
        for name in BASELINE_NAMES
        if (value := results.baseline(name)) is not None
    }
    top = _TOP if lines else 8.0

    def paint(figure: Figure) -> None:
        width = _WIDTH - _LEFT - _RIGHT
        ax = axes(figure, _LEFT, top, width, ROW * len(arms))
        low, high = _range(arms, lines)
        ax.set_xlim(low, high)
        ax.set_ylim(len(arms) - 0.5, -0.5)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.xaxis.set_major_locator(MaxNLocator(7))
        ax.set_xlabel("bits per byte of the test text (lower is better)", labelpad=8)
        for edge in range(len(arms) + 1):
            ax.plot(
                [-_LEFT / width, 1 + 52 / width], [edge - 0.5, edge - 0.5], color=RULE, lw=0.7,
                zorder=0, clip_on=False, transform=ax.get_yaxis_transform(),
            )  # fmt: skip
        _draw_baselines(ax, lines, low, high)
        for row, arm in enumerate(arms):
            _draw_row(ax, row, arm, high, arm is best)

    alt = "Bits per byte of every rung and seed, with closed-form baselines as reference lines"
    return draw("ladder", alt, (_WIDTH, top + ROW * len(arms) + _BOTTOM), paint)


def _range(arms: Sequence[Arm], lines: dict[str, float]) -> tuple[float, float]:
    """Limits that hold every score up to uniform guessing; uniform itself only if it is near."""
    uniform = lines.get("uniform", float("inf"))
    values = [run.bpb for arm in arms for run in arm.runs if run.bpb is not None]
    values = [v for v in values if v <= uniform] + [v for n, v in lines.items() if n != "uniform"]
    low, high = min(values, default=0.0), max(values, default=8.0)
    if uniform < high + 0.25 * (high - low):
        high = uniform
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _draw_baselines(ax: Axes, lines: dict[str, float], low: float, high: float) -> None:
    """A line for each baseline, its label above it; one that lies further right is only named."""
    width = _WIDTH - _LEFT - _RIGHT
    ends: list[float] = []  # right end of the last label of each level, in units
    for name, value in sorted(lines.items(), key=lambda item: item[1]):
        near = value <= high
        text = f"{name} {number(value, 2)}" + ("" if near else " →")
        half = 3.1 * len(text)
        place = (value - low) / (high - low) * width if near else width + 56 - half
        level = next((i for i, end in enumerate(ends) if place - half > end + 8), len(ends))
        ends[level : level + 1] = [place + half]
        ax.annotate(
            text, (place / width, 1), (0, 6 + 15 * level), xycoords="axes fraction",
            textcoords="offset points", ha="center", fontsize=9.5, color=MUTED,
        )  # fmt: skip
        if near:
            top = 1 + (3 + 15 * level) / (ax.get_ylim()[0] + 0.5) / ROW
            ax.plot(
                [value, value], [0, top], color=FAINT, lw=1, ls=(0, (4, 3)), zorder=1,
                clip_on=False, transform=ax.get_xaxis_transform(),
            )  # fmt: skip


def _draw_row(ax: Axes, row: int, arm: Arm, high: float, best: bool) -> None:
    across = {"transform": ax.get_yaxis_transform(), "va": "center_baseline", "clip_on": False}
    width = _WIDTH - _LEFT - _RIGHT
    colour = INK if arm.healthy else MUTED
    weight = "bold" if best else "normal"
    ax.text(-_LEFT / width, row, title(arm.rung.title), color=colour, weight=weight, **across)
    tokenizer = short_tokenizer(arm.runs[0].row.get("tokenizer") or "")
    ax.text(-14 / width, row, tokenizer, ha="right", fontsize=9, color=MUTED, **across)
    mean = arm.mean()
    if arm.healthy and mean is not None:
        ax.plot([mean, mean], [row - 0.32, row + 0.32], color=INK, lw=1.6, zorder=3)
    for run in arm.runs:
        if run.bpb is None:
            mark(ax, high, row, False, WARN)
        elif run.bpb > high:
            ax.plot([high], [row], marker=">", color=WARN, ms=6, mew=0, clip_on=False)
        else:
            mark(ax, run.bpb, row, run.healthy, ACCENT if run.healthy else WARN)
    ax.text(
        1 + 52 / width, row, number(mean), ha="right", weight=weight, color=colour,
        gid=None if arm.healthy else "class-struck", **across,
    )  # fmt: skip
    if not arm.healthy:
        ax.text(1 + 60 / width, row, _brief(arm), fontsize=9, color=WARN, **across)


def _brief(arm: Arm) -> str:
    failed = {run.status for run in arm.runs if not run.healthy}
    if len(failed) > 1:
        return "not all healthy"
    return arm.status().replace(" of ", "/")


def curve_figure(arm: Arm, parent: Arm | None) -> Markup | None:
    """Validation BPB over bytes of training text: each seed, and faintly the parent's seeds."""
    own = [curve for run in arm.runs if (curve := run.curve())]
    before = [curve for run in parent.runs if (curve := run.curve())] if parent else []
    if not own:
        return None

    def paint(figure: Figure) -> None:
        ax = axes(figure, 40, 12, 300, 176)
        for curves, colour, width in ((before, FAINT, 1.1), (own, ACCENT, 1.5)):
            for curve in curves:
                ax.plot(*zip(*curve, strict=True), color=colour, lw=width, marker="o", ms=2.4)
        end = max(x for curve in [*own, *before] for x, _ in curve)
        ax.set_xlim(0, end)
        ax.set_xticks([0, end / 2, end], ["0", text_size(end / 2), text_size(end)])
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.spines["left"].set_visible(False)
        ax.grid(axis="y")
        ax.set_xlabel("training text read")
        ends = [(_last(own), "this rung", ACCENT)]
        ends += [(_last(before), "its parent", MUTED)] if before else []
        label_ends(ax, ends)

    alt = f"Validation bits per byte of {arm.rung.id} over training bytes"
    return draw(f"curve-{arm.rung.id}", alt, (420, 232), paint)


def _last(curves: Sequence[Sequence[tuple[float, float]]]) -> float:
    return sum(curve[-1][1] for curve in curves) / len(curves)


PHASES = (("init", FAINT), ("10%", MUTED), ("end", ACCENT))
"""When the mechanism is measured, with the colour of each moment."""


def gradient_figure(arm: Arm) -> Markup | None:
    """Gradient norm of the embedding and of each block, at init, after 10 % and at the end."""
    mechanism = arm.runs[0].result.get("mechanism") or []
    lines = {m["at"]: gradient_profile(m) for m in mechanism if m.get("blocks")}
    lines = {at: line for at, line in lines.items() if len(line) > 1}
    if not lines:
        return None

    def paint(figure: Figure) -> None:
        ax = axes(figure, 44, 12, 190, 176)
        blocks = max(len(m["blocks"]) for m in mechanism)
        for at, colour in PHASES:
            if at in lines:
                ax.plot(*zip(*lines[at], strict=True), color=colour, marker="o", ms=4)
        log_axis(ax)
        ax.set_xlim(-0.25, blocks + 0.25)
        ax.set_xticks(range(blocks + 1), ["emb.", *map(str, range(1, blocks + 1))])
        ax.set_xlabel("block")
        ends = [(lines[at][-1][1], at, colour) for at, colour in PHASES if at in lines]
        label_ends(ax, [(y, at.replace("%", " %"), _legible(c)) for y, at, c in ends])

    alt = f"Gradient norm of each block of {arm.rung.id} at init, 10 % and the end"
    return draw(f"gradient-{arm.rung.id}", alt, (280, 232), paint)


def _legible(colour: str) -> str:
    return MUTED if colour == FAINT else colour


def gradient_profile(moment: dict) -> list[tuple[int, float]]:
    """(block, gradient norm) of one moment, the embedding being 0; zeros have no logarithm."""
    norms = [moment.get("embedding_gradient_norm")]
    norms += [block.get("gradient_norm") for block in moment["blocks"]]
    return [(place, norm) for place, norm in enumerate(norms) if norm]


def score_range(scores: Iterable[float | None], margin: float, least: float) -> tuple[float, float]:
    """Limits that hold every score; one far above the others lies at the edge.

    Args:
        margin: part of the range left free at both ends. least: the same, if all scores are equal.
    """
    known = [score for score in scores if score is not None]
    low, high = min(known, default=0.0), max(known, default=8.0)
    high = min(high, low + 8.0)  # a run far above uniform guessing must not flatten all others
    space = margin * (high - low) or least
    return low - space, high + space


def log_axis(ax: Axes) -> None:
    """A logarithmic y axis with at least two decades labelled, and plain labels."""
    ax.set_yscale("log")
    if not np.isfinite(ax.dataLim.intervaly).all():  # nothing was measured, so nothing was drawn
        return
    low, high = (math.log10(limit) for limit in ax.dataLim.intervaly)
    low, high = low - 0.15, high + 0.15
    if math.floor(high) - math.ceil(low) < 1:  # fewer than two decades to label
        low, high = math.floor(low), math.ceil(high)
    ax.set_ylim(10.0**low, 10.0**high)
    ax.yaxis.set_major_locator(LogLocator(10, numticks=6))
    ax.yaxis.set_major_formatter(FuncFormatter(power_of_ten))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y")
