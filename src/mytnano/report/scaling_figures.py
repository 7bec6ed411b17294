"""The figures over depth and over length: what stacking does, and what attention costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from mytnano.report.compare import lowest
from mytnano.report.data import Arm, Results
from mytnano.report.figures import gradient_profile, log_axis, mark, score_range
from mytnano.svg import ACCENT, SECOND, axes, draw, label_ends
from mytnano.words import quantity

_DEPTH = re.compile(r"depth-(plain|residual)-(\d+)-(.+)")
PATHS = (("plain", "without residual", SECOND), ("residual", "with residual", ACCENT))
COSTS = (("seconds", "seconds"), ("peak_bytes", "peak memory"))
KERNELS = (("explicit", SECOND), ("flash", ACCENT))


@dataclass(frozen=True)
class Cell:
    """One cell of the depth grid."""

    path: str
    layers: int
    lr: str
    arm: Arm


def depth_cells(results: Results) -> list[Cell]:
    """The arms of the group ``depth``, by path, depth and learning rate."""
    cells = []
    for arm in results.group("depth"):
        if match := _DEPTH.fullmatch(arm.rung.id):
            cells.append(Cell(match[1], int(match[2]), match[3], arm))
    return sorted(cells, key=lambda cell: (cell.path, cell.layers, float(cell.lr)))


def depth_score(cells: Sequence[Cell]) -> str:
    """The score of the grid: of the test text if that was scored, else of the validation text."""
    tested = any(run.bpb is not None for cell in cells for run in cell.arm.runs)
    return "test_bpb" if tested else "validation_bpb"


def depth_figure(cells: Sequence[Cell], key: str) -> Markup:
    """BPB against the number of blocks, one line a learning rate; without and with residuals."""
    depths = sorted({cell.layers for cell in cells})
    rates = sorted({cell.lr for cell in cells}, key=float)

    def paint(figure: Figure) -> None:
        scores = [run.row.get(key) for cell in cells for run in cell.arm.runs]
        low, high = score_range(scores, 0.07, 0.5)
        for place, (path, name, colour) in enumerate(PATHS):
            ax = axes(figure, 40 + 372 * place, 34, 262, 230)
            ax.set_title(name, loc="left", fontsize=11, color=colour, weight="bold", pad=12)
            ax.set_xscale("log", base=2)
            ax.set_xlim(depths[0] / 1.2, depths[-1] * 1.2)
            ax.set_xticks(depths, [str(n) for n in depths])
            ax.set_xlabel("blocks")
            ax.set_ylim(low, high)
            ax.yaxis.set_major_locator(MaxNLocator(6))
            ax.spines["left"].set_visible(False)
            ax.grid(axis="y")
            ends = []
            for strength, lr in zip(_strengths(len(rates)), rates, strict=True):
                line = [cell for cell in cells if cell.path == path and cell.lr == lr]
                ends += _draw_rate(ax, line, key, (lr, colour, strength), high)
            label_ends(ax, ends)

    alt = "Bits per byte against depth for each learning rate, without and with residual paths"
    return draw("depth", alt, (760, 312), paint)


def _strengths(count: int) -> list[float]:
    """Opacity of each learning rate's line: the larger the rate, the stronger."""
    return [0.4 + 0.6 * (i + 1) / count for i in range(count)]


def _draw_rate(
    ax: Axes, cells: Sequence[Cell], key: str, look: tuple[str, str, float], top: float
) -> list[tuple[float, str, str]]:
    """One line through the mean of each depth, every seed marked; returns its end's label."""
    lr, colour, strength = look
    means = [(cell.layers, cell.arm.mean(key)) for cell in cells]
    points = [(n, min(mean, top)) for n, mean in means if mean is not None]
    if points:
        ax.plot(*zip(*points, strict=True), color=colour, alpha=strength, lw=1.4)
    for cell in cells:
        for run in cell.arm.runs:
            score = run.row.get(key)
            shown = top if score is None else min(score, top)
            mark(ax, cell.layers, shown, run.healthy, colour, 5)
    return [(points[-1][1], f"LR {lr}", colour)] if points else []


def deepest(cells: Sequence[Cell], key: str) -> dict[str, Cell]:
    """Of each path the deepest cell whose BPB is lowest, healthy ones first."""
    chosen = {}
    for path, _, _ in PATHS:
        own = [cell for cell in cells if cell.path == path]
        own = [cell for cell in own if cell.layers == max(c.layers for c in own)]
        arms = [cell.arm for cell in own]
        scored = [arm for arm in arms if arm.mean(key) is not None]
        arm = lowest(arms, key) or min(scored, key=lambda a: a.mean(key) or 0.0, default=None)
        if arm is not None:
            chosen[path] = next(cell for cell in own if cell.arm is arm)
    return chosen


def profile_figure(chosen: dict[str, Cell]) -> Markup | None:
    """Rank-one distance and gradient norm along the blocks of the deepest stacks."""
    shown = {path: cell for path, cell in chosen.items() if _moments(cell.arm)}
    if not shown:
        return None

    def paint(figure: Figure) -> None:
        left, right = axes(figure, 40, 34, 262, 200), axes(figure, 412, 34, 262, 200)
        ends: dict[Axes, list[tuple[float, str, str]]] = {left: [], right: []}
        for path, _, colour in PATHS:
            moments = _moments(shown[path].arm) if path in shown else {}
            for at, style in (("init", (0, (2, 2))), ("end", "-")):
                if at not in moments:
                    continue
                rank = _rank_profile(moments[at])
                gradient = gradient_profile(moments[at])
                for ax, line in ((left, rank), (right, gradient)):
                    if line:
                        ax.plot(*zip(*line, strict=True), color=colour, ls=style, marker="o", ms=3)
                        ends[ax].append((line[-1][1], f"{path}, {at}", colour))
        blocks = max(cell.layers for cell in shown.values())
        _finish(left, "distance from rank one", range(1, blocks + 1))
        log_axis(right)
        _finish(right, "gradient norm (emb. = 0)", range(blocks + 1))
        left.set_ylim(bottom=min(0.0, left.get_ylim()[0]))
        for ax in (left, right):
            label_ends(ax, ends[ax])

    alt = "Distance from rank one and gradient norm by block, without and with residual paths"
    return draw("depth-profile", alt, (760, 282), paint)


def _finish(ax: Axes, name: str, ticks: Sequence[int]) -> None:
    ax.set_title(name, loc="left", fontsize=11, pad=12)
    ax.set_xticks(list(ticks))
    ax.set_xlabel("block")
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y")


def _moments(arm: Arm) -> dict[str, dict[str, Any]]:
    mechanism = arm.runs[0].result.get("mechanism") or []
    return {moment["at"]: moment for moment in mechanism if moment.get("blocks")}


def _rank_profile(moment: dict[str, Any]) -> list[tuple[int, float]]:
    values = [block.get("rank_one_distance") for block in moment["blocks"]]
    return [(place, value) for place, value in enumerate(values, 1) if value is not None]


def attention_figure(rows: Sequence[dict[str, Any]]) -> Markup | None:
    """Seconds and peak memory of the two kernels against the window length; axes logarithmic."""
    if not rows:
        return None

    def paint(figure: Figure) -> None:
        for place, (key, name) in enumerate(COSTS):
            ax = axes(figure, 54 + 372 * place, 34, 248, 220)
            ends = []
            for kernel, colour in KERNELS:
                own = [row for row in rows if row["kernel"] == kernel]
                line = sorted((row["T"], row[key]) for row in own if row.get(key))
                if line:
                    ax.plot(*zip(*line, strict=True), color=colour, marker="o", ms=4)
                    ends.append((line[-1][1], kernel, colour))
            ax.set_xscale("log", base=2)
            log_axis(ax)
            if key == "peak_bytes":
                ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: quantity(y, "B")))
            lengths = sorted({row["T"] for row in rows})
            _finish(ax, name, lengths)
            ax.set_xticks(lengths, [str(T) for T in lengths])
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set_xlabel("window length T in tokens")
            label_ends(ax, ends)

    return draw("attention", "Cost of explicit and flash attention over T", (760, 302), paint)
