"""The figures of the extended groups: every seed over a number, or a row for each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from mytnano.report.data import Arm
from mytnano.report.figures import ROW, mark, score_range
from mytnano.svg import ACCENT, INK, MUTED, RULE, SECOND, WARN, axes, draw, label_ends
from mytnano.words import number, quantity

SCORE = "bits per byte of the test text (lower is better)"
_WIDTH, _LEFT, _RIGHT = 760.0, 200.0, 140.0
_HEIGHT = 230.0
_COLOURS = (ACCENT, SECOND, MUTED)


@dataclass(frozen=True)
class Point:
    """One rung in a figure.

    Attributes:
        label: its name within the group.
        x: its place on a numeric axis; 0 where there is none.
        line: name of the line it belongs to; empty where there is one.
        base: whether it is the design that the others start from.
    """

    label: str
    arm: Arm
    x: float = 0.0
    line: str = ""
    base: bool = False


def rows_figure(name: str, points: Sequence[Point]) -> Markup:
    """A row for each kind: its seeds as dots, their mean as a bar and a number."""
    low, high = _range(points)

    def paint(figure: Figure) -> None:
        width = _WIDTH - _LEFT - _RIGHT
        ax = axes(figure, _LEFT, 8, width, ROW * len(points))
        ax.set_xlim(low, high)
        ax.set_ylim(len(points) - 0.5, -0.5)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.xaxis.set_major_locator(MaxNLocator(6))
        ax.set_xlabel(SCORE, labelpad=8)
        across = {"transform": ax.get_yaxis_transform(), "clip_on": False}
        text = across | {"va": "center_baseline"}
        for edge in range(len(points) + 1):
            ends = [-_LEFT / width, 1 + 52 / width]
            ax.plot(ends, [edge - 0.5] * 2, color=RULE, lw=0.7, zorder=0, **across)
        for row, point in enumerate(points):
            arm, weight = point.arm, "bold" if point.base else "normal"
            colour = INK if arm.healthy else MUTED
            ax.text(-_LEFT / width, row, point.label, color=colour, weight=weight, **text)
            mean = arm.mean()
            if arm.healthy and mean is not None:
                ax.plot([mean, mean], [row - 0.32, row + 0.32], color=INK, lw=1.6, zorder=3)
            for run in arm.runs:
                shown = high if run.bpb is None else min(run.bpb, high)
                mark(ax, shown, row, run.healthy, ACCENT if run.healthy else WARN)
            ax.text(
                1 + 52 / width, row, number(mean), ha="right", color=colour, weight=weight,
                gid=None if arm.healthy else "class-struck", **text,
            )  # fmt: skip
            if not arm.healthy:
                ax.text(1 + 60 / width, row, arm.status(), fontsize=9, color=WARN, **text)

    alt = f"Bits per byte of every seed, one row for each of the {name}"
    return draw(f"group-{name}", alt, (_WIDTH, 8 + ROW * len(points) + 44), paint)


def axis_figure(name: str, axis: str, panels: Sequence[tuple[str, Sequence[Point]]]) -> Markup:
    """BPB over a number in powers of two: a panel or two side by side, on the same scale.

    Args:
        name: of the group.
        axis: what the number is.
        panels: title and points of each.
    """
    everything = [point for _, points in panels for point in points]
    low, high = _range(everything)
    places = sorted({point.x for point in everything})
    narrow = len(panels) > 1

    def paint(figure: Figure) -> None:
        for place, (title, points) in enumerate(panels):
            ax = axes(figure, 44 + 364 * place, 30, 316 if narrow else 560, _HEIGHT)
            if title:
                ax.set_title(title, loc="left", fontsize=11, color=INK, weight="bold", pad=12)
            ax.set_xscale("log", base=2)
            ax.set_xlim(places[0] / 1.25, places[-1] * 1.25)
            ticks = [x for x in places if not _named(x, points)]
            ax.set_xticks(ticks, [tick(x) for x in ticks], fontsize=9 if narrow else 10)
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set_xlabel(axis)
            ax.set_ylim(low, high)
            ax.yaxis.set_major_locator(MaxNLocator(6))
            ax.spines["left"].set_visible(False)
            ax.grid(axis="y")
            _draw_points(ax, points, high)

    alt = f"Bits per byte of every seed over {axis}"
    return draw(f"group-{name}", alt, (_WIDTH, 30 + _HEIGHT + 48), paint)


def _draw_points(ax: Axes, points: Sequence[Point], top: float) -> None:
    """A line for each name through the means, every seed marked, kinds named at their place."""
    lines = list(dict.fromkeys(point.line for point in points))
    ends = []
    for colour, line in zip(_COLOURS, lines, strict=False):
        own = sorted((p for p in points if p.line == line), key=lambda point: point.x)
        means = [(p.x, p.arm.mean()) for p in own if p.arm.healthy]
        curve = [(x, mean) for x, mean in means if mean is not None]
        if curve:
            ax.plot(*zip(*curve, strict=True), color=colour, lw=1.2, alpha=0.55)
            ends.append((curve[-1][1], line, colour))
        for point in own:
            for run in point.arm.runs:
                shown = top if run.bpb is None else min(run.bpb, top)
                dot = colour if run.healthy else WARN
                mark(ax, point.x, shown, run.healthy, INK if point.base and run.healthy else dot)
            highest = max((run.bpb or 0.0 for run in point.arm.runs), default=0.0)
            if not point.line and not _is_number(point.label):
                ax.annotate(
                    point.label, (point.x, min(highest or top, top)), (0, 8),
                    textcoords="offset points", ha="center", fontsize=9, color=MUTED,
                    annotation_clip=False,
                )  # fmt: skip
    if len(lines) > 1:
        label_ends(ax, ends)


def _named(x: float, points: Sequence[Point]) -> bool:
    """Whether the points at a place carry names, so that its number would only crowd the axis."""
    here = [point for point in points if point.x == x]
    crowded = len({point.x for point in points}) > 8
    return crowded and bool(here) and all(not _is_number(point.label) for point in here)


def _is_number(label: str) -> bool:
    return label.replace(",", "").replace(".", "", 1).isdigit()


def tick(x: float) -> str:
    """``512``, ``8k`` for 8,192, ``0.5``, ``1.05 M``."""
    if x >= 1024 and x % 1024 == 0:
        return f"{x / 1024:g}k"
    return quantity(x) if x >= 10_000 else f"{x:g}"


def _range(points: Sequence[Point]) -> tuple[float, float]:
    return score_range((run.bpb for point in points for run in point.arm.runs), 0.08, 0.05)
