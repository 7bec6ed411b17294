"""Runs as a table that anybody's trainer can write, and a forecast as sentences and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mytnano.errors import UserError
from mytnano.files import atomic_write_text
from mytnano.planning.interval import APART, CALIBRATED, GATE, LEVEL, Forecast, Gate, Law
from mytnano.planning.law import Run

COLUMNS = ("params", "bytes", "bpb", "seed")
FLOPS = "flops"
"""A column more, of those who counted them."""


def read_runs(path: Path) -> list[Run]:
    """Runs from a CSV file with columns params, bytes and bpb, and seed and flops if there are any.

    Raises:
        UserError: it cannot be read, a column is missing, it has no rows, or a value is no number
            above zero.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows, header = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"'{path}' cannot be read as CSV ({reason})") from None
    missing = [name for name in COLUMNS[:3] if name not in header]
    if missing:
        raise UserError(
            f"'{path}' has no column {missing[0]}: a row a run, with the columns params, bytes, "
            "bpb (bits per byte) and seed"
        )
    if not rows:
        raise UserError(f"'{path}' has no runs: give a row a run under its header")
    return [_run(path, number, row) for number, row in enumerate(rows, start=2)]


def _run(path: Path, number: int, row: dict[str, str]) -> Run:
    values = {name: _value(path, number, name, row[name]) for name in COLUMNS[:3]}
    if row.get(FLOPS):
        values[FLOPS] = _value(path, number, FLOPS, row[FLOPS])
    return Run(**values, seed=row.get("seed") or "")


def _value(path: Path, number: int, name: str, text: str | None) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UserError(
            f"'{path}' line {number}: {name} is '{text}', not a number above zero; leave runs that "
            "diverged out"
        )
    return value


def write_runs(path: Path, runs: Sequence[Run]) -> None:
    """As :func:`read_runs` reads them; UserError if the disk is full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    counted = all(run.flops for run in runs)
    writer.writerow((*COLUMNS, FLOPS) if counted else COLUMNS)
    for run in runs:
        row = [f"{run.params:.0f}", f"{run.bytes:.0f}", repr(float(run.bpb)), run.seed]
        writer.writerow([*row, f"{run.flops:.0f}"] if counted else row)
    atomic_write_text(path, text.getvalue())


def sentences(law: Law, gate: Gate | None, forecasts: Sequence[Forecast]) -> list[str]:
    """What was fitted, whether it held on the runs that were left out, and what it says."""
    return [
        f"{len(law.runs)} runs in {len({run.cell for run in law.runs})} cells",
        *(law_sentence(law, name) for name in law.fits),
        noise_sentence(law),
        gate_sentence(gate),
        *map(forecast_sentence, forecasts),
    ]


def law_sentence(law: Law, name: str) -> str:
    """One form: its numbers, its error, and whether the runs reject it."""
    fitted = law.fits[name]
    numbers = ", ".join(f"{key} = {value:.4g}" for key, value in fitted.parameters.items())
    said = f"{name}: {fitted.form.formula} with {numbers}; runs lie {fitted.error:.2%} about it"
    if name not in law.accepted:
        return f"{said}, so it is rejected and counts less"
    if fitted is law.best:
        said += "; it fits best, so forecasts are its own"
    if fitted.edges:
        return f"{said}; {' and '.join(fitted.edges)} is at the edge of its range, so not known"
    return said


def noise_sentence(law: Law) -> str:
    """How much seeds differ, and cells beyond that."""
    if not law.seed_freedom:
        return "no cell has two seeds, so the error about the law stands for what a seed does"
    return (
        f"seeds of one cell differ by {law.seed_sd:.2%} (standard deviation), and cells lie "
        f"{law.cell_sd:.2%} off the law beyond that"
    )


def gate_sentence(gate: Gate | None) -> str:
    """Whether the largest runs lie where the others say."""
    if gate is None:
        return "gate: not tried, as the runs without the largest ones cannot fix the law"
    forecast = gate.forecast
    largest = f"the {gate.runs} largest runs" if gate.runs > 1 else "the largest run"
    said = (
        f"gate {'passed' if gate.passed else 'FAILED'}: {largest}, with "
        f"{forecast.factor:.1f} times the compute of the others, came to {gate.observed:.4f} bits "
        f"per byte; {interval(forecast)} was forecast from those"
    )
    if gate.weak:
        said += f"; less than {GATE[0]:g} times is a weak trial"
    if gate.far:
        said += f"; more than {GATE[1]:g} times is a trial that a wide interval passes easily"
    return said


def forecast_sentence(forecast: Forecast) -> str:
    """The forecast of one run, of what design it is, and how far beyond the runs."""
    unit = "counted FLOPs" if forecast.counted else "weights times bytes"
    said = (
        f"{forecast.params:,.0f} weights on {forecast.bytes:,.0f} bytes: {interval(forecast)} bits "
        f"per byte, {forecast.factor:,.3g} times the compute of the largest run ({unit})"
    )
    if forecast.like:
        said += (
            f"; it is of the runs' own design with as many weights as {forecast.like} has, not of "
            f"{forecast.like}, whose parts, window, batch and vocabulary differ"
        )
    if forecast.factor > CALIBRATED:
        said += f"; not calibrated: the law is untested beyond {CALIBRATED:g} times"
    elif not forecast.calibrated:
        said += (
            f"; not calibrated: its weights or its text lie {forecast.apart:,.3g} times outside "
            f"those of the runs, and the law is untested beyond {APART:g}"
        )
    return said


def interval(forecast: Forecast) -> str:
    """``1.234 [1.2, 1.3]``."""
    return f"{forecast.bpb:.4f} [{forecast.low:.4f}, {forecast.high:.4f}]"


def as_json(law: Law, gate: Gate | None, forecasts: Sequence[Forecast]) -> dict:
    """All of it as plain values, and as the sentences that are printed."""
    return {
        "sentences": sentences(law, gate, forecasts),
        "level": LEVEL,
        "runs": [asdict(run) for run in law.runs],
        "forms": {
            name: {
                "formula": each.form.formula,
                "parameters": each.parameters,
                "relative_error": each.error,
                "relative_error_of_cells": law.errors[name],
                "rejected": name not in law.accepted,
                "edges": each.edges,
            }
            for name, each in law.fits.items()
        },
        "best": law.best.form.name,
        "cell_sd": law.cell_sd,
        "seed_sd": law.seed_sd,
        "seed_freedom": law.seed_freedom,
        "gate": gate
        and {
            "passed": gate.passed,
            "weak": gate.weak,
            "far": gate.far,
            "observed": gate.observed,
            "runs": gate.runs,
            "forecast": forecast_json(gate.forecast),
        },
        "forecasts": [forecast_json(each) for each in forecasts],
    }


def forecast_json(forecast: Forecast) -> dict:
    return {**asdict(forecast), "calibrated": forecast.calibrated}
