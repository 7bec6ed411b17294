"""From a matplotlib figure to an SVG element that belongs to the page it stands in.

Text stays text and takes the page's font; colours become the page's CSS variables, so a figure
turns dark with the page; nothing refers to a network address; the same data gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from html import escape

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

LIGHT = {
    "ink": "#1b2126",
    "muted": "#5a6570",
    "faint": "#a9b3bc",
    "rule": "#dde2e6",
    "paper": "#fdfdfb",
    "panel": "#f4f5f2",
    "accent": "#1f5d9c",
    "second": "#96650c",
    "warn": "#b0381f",
}
DARK = {
    "ink": "#e5e9ec",
    "muted": "#9ea9b2",
    "faint": "#64707a",
    "rule": "#2f373e",
    "paper": "#14181b",
    "panel": "#1b2024",
    "accent": "#7db7ef",
    "second": "#d9ad57",
    "warn": "#f1896f",
}
"""Figures are drawn in ``LIGHT``; the page defines both as variables of the same names."""

INK, MUTED, FAINT, RULE, PAPER, ACCENT, SECOND, WARN = (
    LIGHT[name] for name in ("ink", "muted", "faint", "rule", "paper", "accent", "second", "warn")
)

STYLE = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same layout on every machine
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}

SCALE = 1.3 / 16
"""CSS rem of a unit of a figure at its largest: 11-unit text is a little smaller than prose."""

PIXELS = 1.2
"""Pixels of a unit of a figure that stands on its own."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def draw(name: str, alt: str, size: tuple[float, float], paint: Callable[[Figure], None]) -> Markup:
    """An inline ``<svg>`` of what ``paint`` draws.

    Args:
        name: unique on the page; keeps the ids of two figures apart.
        alt: what the figure shows, for readers who cannot see it.
        size: width and height in units.
        paint: draws on the figure, whatever the user's own matplotlib settings are.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({**STYLE, "svg.hashsalt": name})
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        FigureCanvasSVG(figure)
        paint(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue(), alt, size)


def standalone(svg: str) -> str:
    """A figure of :func:`draw` as a file of its own: light colours on paper, a margin and a font.

    On a page of its own the drawing has none of the report's.
    """
    for name, colour in LIGHT.items():
        svg = svg.replace(f"var(--{name})", colour)
    head, box, body = re.split(r'viewBox="0 0 ([\d.]+ [\d.]+)"', svg, maxsplit=1)
    width, height = box.split()
    wide, high = float(width) + 32, float(height) + 24
    frame = f'width="{PIXELS * wide:.0f}" height="{PIXELS * high:.0f}" '
    frame += f'viewBox="-16 -12 {wide:g} {high:g}"'
    ground = (
        f'<style>text{{font-family:"DejaVu Sans",Verdana,sans-serif}}'
        f".struck text{{text-decoration:line-through}}</style>"
        f'<rect x="-16" y="-12" width="100%" height="100%" fill="{LIGHT["paper"]}"/>'
    )
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    opening, _, drawing = body.partition(">")
    return f"{head}{frame}{opening}>{ground}{drawing}\n"


def axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place given in units from the top left corner."""
    whole_width, whole_height = figure.get_size_inches() * 72
    bottom = whole_height - top - height
    return figure.add_axes(
        (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """The same places, moved apart until neighbours are at least ``gap`` from each other.

    Groups that are too close share their middle, so labels stay near what they name.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[tuple[float, int]] = []  # (middle, members)
    for i in order:
        middle, members = places[i], 1
        while groups and middle - groups[-1][0] < gap * (members + groups[-1][1]) / 2:
            other, count = groups.pop()
            middle = (middle * members + other * count) / (members + count)
            members += count
        groups.append((middle, members))
    spaced = [m + gap * (k - (n - 1) / 2) for m, n in groups for k in range(n)]
    return [spaced[order.index(i)] for i in range(len(places))]


LABEL_GAP = 13
"""Units between two labels at the ends of lines."""


def label_ends(ax: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names of lines at the right edge, each at the height (in data) where its line ends.

    Args:
        labels: (y, text, colour) each.
    """
    labels = [label for label in labels if math.isfinite(label[0])]
    if not labels:
        return
    to_units = ax.transData
    heights = [to_units.transform((ax.get_xlim()[1], y))[1] for y, _, _ in labels]
    dots_per_unit = ax.figure.dpi / 72
    for height, old, (y, text, colour) in zip(
        spread(heights, LABEL_GAP * dots_per_unit), heights, labels, strict=True
    ):
        ax.annotate(
            text,
            (1, y),
            (7, (height - old) / dots_per_unit),
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            color=colour,
            va="center_baseline",
            fontsize=10,
        )


def power_of_ten(value: float, _: object = None) -> str:
    """``0.01`` to ``100`` as they are, anything else as a power of ten."""
    exponent = round(math.log10(value)) if value > 0 else 0
    return f"{value:g}" if -2 <= exponent <= 2 else f"10{str(exponent).translate(_SUPERSCRIPTS)}"


def _inline(svg: str, alt: str, size: tuple[float, float]) -> Markup:
    """The drawing without its document: no prolog, metadata, style sheet, fonts and namespaces."""
    body = svg[svg.index("<svg") :]
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.S)
    body = re.sub(r'<g id="class-(\w+)">', r'<g class="\1">', body)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r'style="[^"]*"', lambda match: _style(match[0]), body)
    body = re.sub(
        r' (d|x|y|width|height|transform)="[^"]*"', lambda match: _shorter(match[0]), body
    )
    body = re.sub(r">\s+<", "><", body)
    head = (
        f'<svg role="img" aria-label="{escape(alt)}" viewBox="0 0 {size[0]:g} {size[1]:g}" '
        f'style="max-width:{SCALE * size[0]:.4g}rem">'
    )
    return Markup(head + body.strip() + "</svg>")


def _style(style: str) -> str:
    style = re.sub(r"font-family: [^;\"]*(; )?", "", style)
    # Before 3.11 matplotlib wrote the shorthand: weight, size and families in one.
    style = re.sub(r"font: ((?:\w+ )*?)([\d.]+px) [^;\"]*", _font, style)
    for name, colour in LIGHT.items():
        style = style.replace(colour, f"var(--{name})")
    return style.replace(": ", ":").replace("; ", ";")


def _font(match: re.Match[str]) -> str:
    weight = re.search(r"\d+|bold", match[1])
    return (f"font-weight: {weight[0]}; " if weight else "") + f"font-size: {match[2]}"


def _shorter(attribute: str) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", re.sub(r"\s*\n\s*", " ", attribute))
