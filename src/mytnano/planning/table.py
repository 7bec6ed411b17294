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
from mytnano.planning.interval import CALIBRATED, LEVEL, Forecast, Gate, Law
from mytnano.planning.law import Run

COLUMNS = ("params", "bytes", "bpb", "seed")


def read_runs(path: Path) -> list[Run]:
    """Runs from a CSV file with columns params, bytes and bpb, and seed if there is one.

    Raises:
        UserError: it cannot be read, a column is missing, or a value is no number above zero.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"'{path}' cannot be read as CSV ({reason})") from None
    missing = [name for name in COLUMNS[:3] if not rows or name not in rows[0]]
    if missing:
        raise UserError(
            f"'{path}' has no column {missing[0]}: a row a run, with the columns params, bytes, "
            "bpb (bits per byte) and seed"
        )
    return [_run(path, number, row) for number, row in enumerate(rows, start=2)]


def _run(path: Path, number: int, row: dict[str, str]) -> Run:
    values = []
    for name in COLUMNS[:3]:
        try:
            value = float(row[name])
        except (TypeError, ValueError):
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise UserError(
                f"'{path}' line {number}: {name} is '{row[name]}', not a number above zero; leave "
                "runs that diverged out"
            )
        values.append(value)
    return Run(*values, seed=row.get("seed") or "")


def write_runs(path: Path, runs: Sequence[Run]) -> None:
    """As :func:`read_runs` reads them; UserError if the disk is full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in runs:
        writer.writerow([f"{run.params:.0f}", f"{run.bytes:.0f}", repr(float(run.bpb)), run.seed])
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
        return f"{said}, so it is rejected and does not count"
    if fitted.edges:
        return f"{said}; {' and '.join(fitted.edges)} is at the edge of its range, so not known"
    return said


def noise_sentence(law: Law) -> str:
    """How much seeds differ."""
    if not law.seed_freedom:
        return "no cell has two seeds, so the error about the law stands for what a seed does"
    return f"seeds of one cell differ by {law.seed_sd:.2%} (standard deviation)"


def gate_sentence(gate: Gate | None) -> str:
    """Whether the largest runs lie where the others say."""
    if gate is None:
        return "gate: not tried, as the runs without the largest ones cannot fix the law"
    forecast = gate.forecast
    said = (
        f"gate {'passed' if gate.passed else 'FAILED'}: the {gate.runs} largest runs, with "
        f"{forecast.factor:.1f} times the compute of the others, came to {gate.observed:.4f} bits "
        f"per byte; {interval(forecast)} was forecast from those"
    )
    return said + ("; less than 4 times is a weak trial" if gate.weak else "")


def forecast_sentence(forecast: Forecast) -> str:
    """The forecast of one run, and how far beyond the runs it is."""
    said = (
        f"{forecast.params:,.0f} weights on {forecast.bytes:,.0f} bytes: {interval(forecast)} bits "
        f"per byte, {forecast.factor:,.3g} times the compute of the largest run"
    )
    if not forecast.calibrated:
        said += f"; not calibrated: beyond {CALIBRATED:g} times nothing has tried the law out"
    return said


def interval(forecast: Forecast) -> str:
    """``1.234 [1.2, 1.3]``."""
    return f"{forecast.bpb:.4f} [{forecast.low:.4f}, {forecast.high:.4f}]"


def as_json(law: Law, gate: Gate | None, forecasts: Sequence[Forecast]) -> dict:
    """All of it as plain values."""
    return {
        "level": LEVEL,
        "runs": [asdict(run) for run in law.runs],
        "forms": {
            name: {
                "formula": each.form.formula,
                "parameters": each.parameters,
                "relative_error": each.error,
                "rejected": name not in law.accepted,
                "edges": each.edges,
            }
            for name, each in law.fits.items()
        },
        "seed_sd": law.seed_sd,
        "seed_freedom": law.seed_freedom,
        "gate": gate
        and {
            "passed": gate.passed,
            "weak": gate.weak,
            "observed": gate.observed,
            "runs": gate.runs,
            "forecast": forecast_json(gate.forecast),
        },
        "forecasts": [forecast_json(each) for each in forecasts],
    }


def forecast_json(forecast: Forecast) -> dict:
    return {**asdict(forecast), "calibrated": forecast.calibrated}
