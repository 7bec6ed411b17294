"""The curve of one run as a figure of its own: ``curves.svg`` in the run folder."""

from __future__ import annotations

import json
import math
from pathlib import Path

from mytnano.files import atomic_write_text
from mytnano.run_files import METRICS

CURVES = "curves.svg"
SIZE = (504, 302)
"""Units of the figure, wide and high."""


def write_curves(folder: Path, title: str) -> Path:
    """Draw training loss and validation bits per byte over the bytes read, and the learning rate.

    The same ``metrics.jsonl`` gives the same bytes. Returns the file.
    """
    from mytnano import svg  # matplotlib takes a second, which only a finished run has

    lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    points = [json.loads(line) for line in lines]
    read = [point["bytes"] / 1e6 for point in points]
    per_byte = [
        math.nan  # of a run that diverged
        if point["train_loss"] is None
        else point["train_loss"] * point["tokens"] / point["bytes"] / math.log(2)
        for point in points
    ]
    scored = [(x, p["validation_bpb"]) for x, p in zip(read, points, strict=True)]
    scored = [(x, bpb) for x, bpb in scored if bpb is not None]

    def paint(figure: svg.Figure) -> None:
        figure.set_layout_engine("constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot(read, per_byte, lw=0.8, color=svg.FAINT, label="training batches")
        if scored:
            upper.plot(*zip(*scored, strict=True), "o-", ms=3, color=svg.ACCENT, label="validation")
        upper.set(ylabel="bits per byte", title=title)
        upper.set_ylim(top=max(bpb for _, bpb in scored) * 1.6 if scored else None)
        upper.legend(frameon=False)
        lower.plot(read, [point["lr"] for point in points], lw=1, color=svg.SECOND)
        lower.set(xlabel="MB of text read", ylabel="learning rate")

    alt = f"Training loss, validation bits per byte and learning rate of {title}"
    drawing = svg.draw(CURVES, alt, SIZE, paint)
    atomic_write_text(folder / CURVES, svg.standalone(drawing))
    return folder / CURVES
