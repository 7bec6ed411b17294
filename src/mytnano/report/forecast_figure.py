"""The figure of a forecast: loss over text for each size, the law, and the run it was tried on."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from mytnano.planning.interval import Gate, Law
from mytnano.svg import (
    ACCENT,
    FAINT,
    INK,
    MUTED,
    SECOND,
    WARN,
    axes,
    draw,
    label_ends,
    power_of_ten,
    standalone,
)

SIZE = (760, 330)


def forecast_figure(law: Law, gate: Gate | None) -> str:
    """A whole SVG file: runs and fitted lines to the left, residuals to the right.

    Args:
        law: fitted to all runs.
        gate: the trial on the largest runs, drawn with its interval.
    """

    def paint(figure: Figure) -> None:
        left = axes(figure, 52, 30, 400, 240)
        _lines(left, law, gate)
        _residuals(axes(figure, 570, 30, 180, 240), law)

    alt = "Bits per byte over bytes of text for each size, with the fitted law, and its residuals"
    return standalone(str(draw("forecast", alt, SIZE, paint)))


def _lines(ax: Axes, law: Law, gate: Gate | None) -> None:
    sizes = sorted({run.cell[0] for run in law.runs})
    every = [run.bytes for run in law.runs]
    grid = np.geomspace(min(every) / 1.3, max(every) * 1.3, 60)
    ends = []
    for place, size in enumerate(sizes):
        colour = _shade(place / max(1, len(sizes) - 1))
        line = [law.best.predict(size, d) for d in grid]
        ax.plot(grid, line, color=colour, linewidth=1.2)
        mine = [run for run in law.runs if run.cell[0] == size]
        ax.plot([r.bytes for r in mine], [r.bpb for r in mine], "o", color=colour, markersize=4)
        ends.append((line[-1], f"{size / 1e6:.2g} M", colour))
    if gate is not None:
        forecast = gate.forecast
        span = [[forecast.bpb - forecast.low], [forecast.high - forecast.bpb]]
        ax.errorbar(
            forecast.bytes, forecast.bpb, span, color=WARN, marker="_", capsize=4, linewidth=1.4,
            zorder=5,
        )  # fmt: skip
        ax.annotate(
            "forecast without it", (forecast.bytes, forecast.high), (0, 6),
            textcoords="offset points", color=WARN, ha="left", fontsize=9,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(_bytes))
    ax.yaxis.set_major_locator(FixedLocator(_round_values(*ax.get_ylim())))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.grid(axis="y")
    ax.set_xlabel("text trained on")
    ax.set_title("bits per byte on test text", loc="left", fontsize=11, color=INK)
    label_ends(ax, ends)


def _residuals(ax: Axes, law: Law) -> None:
    work = [run.work for run in law.runs]
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.plot(work, 100 * law.best.residuals, "o", color=MUTED, markersize=3.5)
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(power_of_ten))
    ax.set_xlabel("weights × bytes")
    ax.set_title("off the law, percent", loc="left", fontsize=11, color=INK)


def _round_values(low: float, high: float) -> list[float]:
    """At most seven round values between two."""
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 1e9) if (high - low) / s <= 7)
    return np.arange(np.ceil(low / step) * step, high, step).round(6).tolist()


def _shade(share: float) -> str:
    """From one colour of the page to another."""
    first, last = ([int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (SECOND, ACCENT))
    mixed = (round(a + share * (b - a)) for a, b in zip(first, last, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def _bytes(value: float, _: object = None) -> str:
    return f"{value / 1e6:g} MB" if value >= 1e6 else f"{value / 1e3:g} kB"
