"""The figure of an ablation behind claims, drawn from its evidence file and the runs beside it."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from generator.tables import Project
from mytnano.stats.differences import band, percent
from mytnano.stats.verdict import UNFIT
from mytnano.svg import ACCENT, FAINT, INK, MUTED, RULE, WARN, axes, draw, standalone

RUNS = "results/claims/{name}/results.csv"
WIDTH, LEFT, RIGHT, ROW, TOP = 600.0, 100.0, 160.0, 40.0, 10.0
COLOURS = {"better": ACCENT, "worse": WARN, "equivalent": INK, "identical": INK}
FAR = 1.6
"""An interval is cut where it leaves the seeds' own range by more than this part of it."""

Found = dict[str, Any]


def claim_figure(project: Project, name: str, found: Found) -> str | None:
    """A row an arm: its seeds, its interval, its verdict; None where nothing was compared."""
    arms = found.get("arms") or []
    if not any("difference" in arm for arm in arms):
        return None
    seeds = {arm["name"]: _seeds(project, name, arm["name"]) for arm in arms}
    margin = (found.get("rule") or {}).get("margin")

    def paint(figure: Figure) -> None:
        ax = axes(figure, LEFT, TOP, WIDTH - LEFT - RIGHT, ROW * len(arms))
        _frame(ax, len(arms), _range(arms, seeds), margin)
        for row, arm in enumerate(arms):
            _row(ax, row, arm, seeds[arm["name"]])

    alt = "; ".join(arm["sentence"] for arm in arms)
    size = (WIDTH, TOP + ROW * len(arms) + 44)
    return standalone(str(draw(f"claims-{name}", alt, size, paint)))


def _seeds(project: Project, name: str, arm: str) -> np.ndarray:
    """Percent by which an arm's runs differ from the baseline's of the same seed; maybe none."""
    path = project.root / RUNS.format(name=name)
    if not path.exists():
        return np.zeros(0)
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    score = {
        (row["arm"], row["seed"]): float(row["metric"])
        for row in rows
        if row.get("metric") and row.get("status", "healthy") == "healthy"
    }
    pairs = [
        100 * (value / score["baseline", seed] - 1)
        for (each, seed), value in score.items()
        if each == arm and ("baseline", seed) in score
    ]
    return np.array(pairs)


def _range(arms: list[Found], seeds: dict[str, np.ndarray]) -> tuple[float, float]:
    """Limits that hold every seed and mean, and an interval as far as it is near them."""
    compared = [arm for arm in arms if arm.get("difference") is not None]
    values = [0.0, *(arm["difference"] for arm in compared)]
    values += [float(x) for each in seeds.values() for x in each]
    low, high = min(values), max(values)
    reach = FAR * max(high - low, 1e-3)
    ends = [arm[end] for arm in compared for end in ("low", "high") if arm[end] is not None]
    low = min([low, *(end for end in ends if low - reach <= end)])
    high = max([high, *(end for end in ends if end <= high + reach)])
    space = 0.05 * max(high - low, 1e-3)
    return low - space, high + space


def _frame(ax: Axes, rows: int, limits: tuple[float, float], margin: float | None) -> None:
    ax.set_xlim(*limits)
    ax.set_ylim(rows - 0.5, -0.5)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(7))
    shown = f"; band: margin {margin:g} %" if margin else ""
    ax.set_xlabel(f"% of the baseline’s test BPB, negative is better{shown}")
    if margin:
        edge = band(margin)
        ax.axvspan(percent(-edge), percent(edge), color=RULE, lw=0, zorder=0)
    ax.axvline(0, color=FAINT, lw=1, zorder=1)


def _row(ax: Axes, row: int, arm: Found, seeds: np.ndarray) -> None:
    verdict = arm["verdict"]
    colour = COLOURS.get(verdict, WARN if verdict in UNFIT else MUTED)
    place = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    words = {"va": "center_baseline", "annotation_clip": False, **place}
    ax.annotate(arm["name"][:18], (0, row), (-12, 0), ha="right", color=INK, **words)
    fit = arm.get("difference") is not None and verdict not in UNFIT
    lift = 6 if fit else 0
    ax.annotate(verdict, (1, row), (14, lift), color=colour, weight="bold", **words)
    if not fit:
        return
    ends = arm["low"], arm["high"]
    told = f"{arm['difference']:+.1f} %"
    if all(end is not None and math.isfinite(end) for end in ends):
        told += f" [{ends[0]:.1f}, {ends[1]:.1f}]"
        low, high = ax.get_xlim()
        cut = [min(max(end, low), high) for end in ends]
        ax.plot(cut, [row, row], color=colour, lw=8, alpha=0.25, solid_capstyle="butt", zorder=2)
    ax.annotate(told.replace("-", "−"), (1, row), (14, -8), color=MUTED, fontsize=9, **words)
    offsets = 0.11 * np.array([(0, -1, 1, -2, 2)[i % 5] for i in range(seeds.size)])
    ax.plot(seeds, row + offsets, ls="none", marker="o", ms=4, mew=0, color=colour, alpha=0.7)
    ax.plot([arm["difference"]] * 2, [row - 0.34, row + 0.34], color=INK, lw=1.6, zorder=4)
