"""The figure of an answer: every paired seed, how the interval closed, and the rates behind it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from mytnano.lab.answer import Answer, differences
from mytnano.stats import eprocess
from mytnano.stats.differences import Array, band, percent
from mytnano.stats.verdict import UNFIT, Verdict
from mytnano.svg import (
    ACCENT,
    FAINT,
    INK,
    MUTED,
    RULE,
    WARN,
    axes,
    draw,
)
from mytnano.verdicts import words

FILE = "answer.svg"

WIDTH, LEFT, RIGHT, ROW = 780.0, 150.0, 190.0, 40.0
COLUMNS, GAP, PANEL_HEIGHT, BETWEEN = 3, 62.0, 120.0, 50.0
Painter = Callable[[Axes], None]
COLOURS = {"better": ACCENT, "worse": WARN, "equivalent": INK, "identical": INK}
FAR = 1.6
"""An interval is cut where it leaves the seeds' own range by more than this part of it."""


def answer_figure(found: Answer) -> Markup:
    """Verdicts on top; then panels: intervals over seeds, rates tried, and effects over compute."""
    shown = [*found.verdicts, *([found.interaction] if found.interaction else [])]
    sections = [section for section in _sections(found, shown) if section[1]]
    tops, height = [], 52 + ROW * len(shown) + 50
    for _, painters in sections:
        tops.append(height)
        height += 38 + math.ceil(len(painters) / COLUMNS) * (PANEL_HEIGHT + BETWEEN)

    def paint(figure: Figure) -> None:
        _title(figure, 14, _question(found))
        _verdicts(figure, found, shown)
        for top, (title, painters) in zip(tops, sections, strict=True):
            _title(figure, top, title)
            for number, painter in enumerate(painters):
                painter(_panel(figure, number, top + 30))

    alt = "; ".join(found.sentences)
    return draw(f"answer-{found.plan.hash}", alt, (WIDTH, height), paint)


def _sections(found: Answer, shown: list[Verdict]) -> list[tuple[str, list[Painter]]]:
    """Titles with what paints each panel; a section may have none."""
    arms = [arm.name for arm in found.plan.arms if not arm.twin] or [found.plan.baseline.name]
    closed = [] if found.plan.spec.fixed else [v for v in shown if differences(found, v.name).size]
    return [
        ("how the interval closed, % over paired seeds", [_closing(found, v) for v in closed]),
        (
            f"validation BPB over learning rate (grey: {found.plan.baseline.name}; dashed: chosen)",
            [_rates(found, name) for name in arms],
        ),
        (
            "test BPB of the baseline over times its compute, and the arms",
            [_compute(found)] if found.curve else [],
        ),
        (
            "difference in % over times the question's compute",
            [_trend(found, name) for name in found.trends],
        ),
    ]


def _panel(figure: Figure, number: int, top: float) -> Axes:
    width = (WIDTH - 40 - (COLUMNS - 1) * GAP) / COLUMNS
    row, column = divmod(number, COLUMNS)
    place = 40 + column * (width + GAP), top + row * (PANEL_HEIGHT + BETWEEN)
    ax = axes(figure, *place, width, PANEL_HEIGHT)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y")
    ax.yaxis.set_major_locator(MaxNLocator(4))
    return ax


def _title(figure: Figure, top: float, text: str) -> None:
    height = figure.get_size_inches()[1] * 72
    figure.text(0, 1 - top / height, text, color=MUTED, fontsize=10.5)


def _question(found: Answer) -> str:
    text = found.plan.spec.question
    return text if len(text) <= 110 else text[:109] + "…"


def _verdicts(figure: Figure, found: Answer, shown: list[Verdict]) -> None:
    """A row an arm: seeds as dots, the interval as a bar, the margin as a band."""
    width = WIDTH - LEFT - RIGHT
    ax = axes(figure, LEFT, 36, width, ROW * len(shown))
    seeds = {v.name: np.array([percent(x) for x in differences(found, v.name)]) for v in shown}
    low, high = _range(found, list(seeds.values()), shown)
    ax.set_xlim(low, high)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(7))
    base, spec = found.plan.baseline.name, found.plan.spec
    ax.set_xlabel(
        f"% of the test BPB of {base}, negative is better; band: margin {spec.margin:g} %"
    )
    edge = band(spec.margin)
    ax.axvspan(percent(-edge), percent(edge), color=RULE, lw=0, zorder=0)
    ax.axvline(0, color=FAINT, lw=1, zorder=1)
    for row, verdict in enumerate(shown):
        _row(ax, row, verdict, seeds[verdict.name], (low, high), width)


def _range(found: Answer, seeds: list[Array], shown: list[Verdict]) -> tuple[float, float]:
    """Limits that hold every seed and the margin, and an interval as far as it is near them."""
    edge = percent(band(found.plan.spec.margin))
    values = [0.0, edge, -edge, *(float(x) for each in seeds for x in each)]
    low, high = min(values), max(values)
    reach = FAR * (high - low)
    ends = [end for v in shown for end in (v.low, v.high) if math.isfinite(end)]
    low = min([low, *(end for end in ends if end >= low - reach)])
    high = max([high, *(end for end in ends if end <= high + reach)])
    space = 0.05 * (high - low)
    return low - space, high + space


def _row(
    ax: Axes, row: int, v: Verdict, seeds: Array, limits: tuple[float, float], width: float
) -> None:
    colour = COLOURS.get(v.verdict, WARN if v.verdict in UNFIT else MUTED)
    across = {"transform": ax.get_yaxis_transform(), "va": "center_baseline", "clip_on": False}
    name = v.name if len(v.name) <= 20 else f"{v.name[:11]}…{v.name[-8:]}"
    ax.text(-10 / width, row, name, ha="right", color=INK, **across)
    ax.text(1 + 14 / width, row - 0.16, v.verdict, color=colour, weight="bold", **across)
    if not seeds.size:
        return
    assert v.difference is not None
    said = f"{words.difference(v)} % {words.interval(v)}"
    ax.text(1 + 14 / width, row + 0.22, said, color=MUTED, fontsize=9, **across)
    if math.isfinite(v.low) and math.isfinite(v.high):
        ends = [min(max(end, limits[0]), limits[1]) for end in (v.low, v.high)]
        ax.plot(ends, [row, row], color=colour, lw=7, alpha=0.28, solid_capstyle="butt", zorder=2)
        for end, cut in zip(ends, (v.low, v.high), strict=True):
            if end != cut:
                mark = "<" if cut < end else ">"
                ax.plot([end], [row], marker=mark, color=colour, ms=6, mew=0, clip_on=False)
    offsets = 0.11 * np.array([(0, -1, 1, -2, 2)[i % 5] for i in range(seeds.size)])
    ax.plot(seeds, row + offsets, ls="none", marker="o", ms=4, mew=0, color=colour, alpha=0.75)
    ax.plot([v.difference] * 2, [row - 0.34, row + 0.34], color=INK, lw=1.6, zorder=4)


def _closing(found: Answer, v: Verdict) -> Painter:
    """The running interval, the mean so far and the margin, over the number of pairs."""
    d, spec = differences(found, v.name), found.plan.spec
    low, high = eprocess.intervals(d, spec.alpha / len(spec.judged))
    n = np.arange(1, d.size + 1)
    lows, highs = np.maximum.accumulate(low), np.minimum.accumulate(high)
    known = np.isfinite(lows) & np.isfinite(highs)
    as_percent = np.vectorize(percent, otypes=[float])
    mean = as_percent(np.cumsum(d) / n)
    edge = percent(band(spec.margin))
    colour = COLOURS.get(v.verdict, MUTED)

    def paint(ax: Axes) -> None:
        ax.axhspan(percent(-band(spec.margin)), edge, color=RULE, lw=0, zorder=0)
        ax.axhline(0, color=FAINT, lw=1, zorder=1)
        if known.any():
            ends = as_percent(lows[known]), as_percent(highs[known])
            ax.fill_between(n[known], *ends, color=colour, alpha=0.22, lw=0)
            for end in ends:
                ax.plot(n[known], end, color=colour, lw=1)
            # The first intervals are far wider than what is of interest.
            reach = max(2.5 * (ends[1][-1] - ends[0][-1]), 2.2 * np.ptp(mean), 4 * edge)
            middle = float(mean[-1])
            ax.set_ylim(min(middle - reach / 2, -1.4 * edge), max(middle + reach / 2, 1.4 * edge))
        ax.plot(n, mean, color=INK, lw=1.3, marker="o", ms=2.6)
        ax.set_xlim(0.5, max(d.size, eprocess.FEWEST) + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _name(ax, v.name)

    return paint


def _rates(found: Answer, name: str) -> Painter:
    """An arm's loss over its rate, the baseline's faintly behind it, the chosen rates as lines."""

    def paint(ax: Axes) -> None:
        ticks: set[float] = set()
        for arm, colour, width in ((found.plan.baseline.name, FAINT, 1.1), (name, ACCENT, 1.6)):
            rate = found.rates[arm]
            points = [(math.log2(lr), bpb) for lr, bpb in rate.tuned.points if math.isfinite(bpb)]
            ticks |= {lr for lr, _ in rate.tuned.points}
            if points:
                ax.plot(*zip(*points, strict=True), color=colour, lw=width, marker="o", ms=3)
            ax.axvline(math.log2(rate.lr), color=colour, lw=1, ls=(0, (4, 3)))
        _powers(ax, sorted(ticks)[:: 1 + len(ticks) // 5], "")
        _name(ax, f"{name}, {'fair' if found.rates[name].fair else 'not certified'}")

    return paint


def _compute(found: Answer) -> Painter:
    """The curve that multipliers are read from."""
    curve = found.curve
    assert curve is not None

    def paint(ax: Axes) -> None:
        for level in curve.levels:
            ax.plot(
                [math.log2(level.factor)] * len(level.scores), level.scores, ls="none", marker="o",
                ms=3, mew=0, color=FAINT,
            )  # fmt: skip
        line = [(math.log2(level.factor), level.bpb) for level in curve.levels]
        ax.plot(*zip(*line, strict=True), color=INK, lw=1.3)
        for v in found.verdicts:
            if v.difference is not None and v.verdict not in UNFIT:
                place = math.log2(found.plan.arm(v.name).flops / curve.own.flops)
                colour = COLOURS.get(v.verdict, MUTED)
                bpb = curve.own.bpb * (1 + v.difference / 100)
                ax.plot([place], [bpb], marker="D", ms=5, mew=0, color=colour)
        _powers(ax, [level.factor for level in curve.levels], "x")

    return paint


def _trend(found: Answer, name: str) -> Painter:
    """An arm's mean difference at each size, and the slope, a straight line of logarithms."""
    line, own = found.trends[name], found.plan.baseline.flops

    def paint(ax: Axes) -> None:
        x = np.log2(np.array(line.compute) / own)
        y = 100 * np.log1p(np.array(line.effects) / 100)  # in logarithms
        fitted = y.mean() + 100 * math.log1p(line.slope / 100) * (x - x.mean())
        ax.axhline(0, color=FAINT, lw=1)
        ax.plot(x, line.effects, ls="none", marker="o", ms=5, mew=0, color=ACCENT)
        ax.plot(x, [percent(d) for d in fitted], color=ACCENT if line.resolved else FAINT)
        _powers(ax, list(2**x), "x")
        _name(ax, name)

    return paint


def _powers(ax: Axes, values: list[float], unit: str) -> None:
    """Ticks at some values of an axis in logarithms to base 2."""
    ax.xaxis.set_major_locator(FixedLocator([math.log2(value) for value in values]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{2**x:.2g}{unit}"))


def _name(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=10, color=INK, pad=4)
