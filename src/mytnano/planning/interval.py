"""What a law says of a run that was not made, and how far that can be trusted.

The interval adds four independent errors, each drawn a few hundred times:

* runs: the law fitted again to losses whose residuals were drawn anew, cell by cell: the seeds of a
  cell share what it is off the law, so that is drawn once for all of them;
* form: how far the other forms lie from the one that fits best; rejected ones count less;
* cell: what a new cell is off the law, whatever its seeds;
* seed: what one run differs from another by its seed alone.

It is tried out on the largest runs, which are left out of the fit for that (the gate). Further than
``CALIBRATED`` times the compute of the runs, or ``APART`` times outside their weights or text,
nobody has tried it out, and it is marked so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mytnano.errors import UserError
from mytnano.planning.law import FORMS, Fit, Run, fit, refit

LEVEL = 0.9
SAMPLES = 400
DRAWS = 20
"""Draws of the other errors for each sample."""

CALIBRATED = 100.0
"""Times the compute of the largest run; beyond it a forecast is not calibrated."""

APART = 10.0
"""Times that its weights or its text may lie outside those of the runs: the compute of few weights
on much text is that of runs which the law knows nothing of."""

GATE = (4.0, 8.0)
"""Times the compute of the other runs that the held-out ones should have."""

SAME = 1e-9
"""Relative difference of two losses that only rounding makes."""

REJECTED = 0.01
"""A form is rejected if its cells lie further off than the best form's do, pair by pair, at this
level of a signed-rank test (Wilcoxon 1945): both forms err on the same runs."""


@dataclass(frozen=True)
class Forecast:
    """A prediction of one run's bits per byte.

    Attributes:
        params, bytes: N and D of the run.
        bpb: what the best form says. low, high: of the 90 % interval.
        factor: its compute over that of the largest run that was fitted.
        counted: whether that is of counted FLOPs, or of N times D.
        apart: how many times N or D, whichever is farther, lies outside the runs'; 1 within them.
        run_sd, form_sd, cell_sd, seed_sd: relative standard deviations of the four errors.
        forms: what each form says.
        like: a design with as many weights, where the question named one.
    """

    params: float
    bytes: float
    bpb: float
    low: float
    high: float
    factor: float
    counted: bool
    apart: float
    run_sd: float
    form_sd: float
    cell_sd: float
    seed_sd: float
    forms: dict[str, float]
    like: str = ""

    @property
    def calibrated(self) -> bool:
        return self.factor <= CALIBRATED and self.apart <= APART


@dataclass(frozen=True)
class Gate:
    """The largest runs against what the others forecast of them.

    Attributes:
        forecast: of their mean. observed: that mean. runs: their number.
        passed: whether the interval holds it.
    """

    forecast: Forecast
    observed: float
    runs: int

    @property
    def passed(self) -> bool:
        low, high = self.forecast.low * (1 - SAME), self.forecast.high * (1 + SAME)
        return low <= self.observed <= high

    @property
    def weak(self) -> bool:
        """Whether the held-out runs are too near the others to try much."""
        return self.forecast.factor < GATE[0]

    @property
    def far(self) -> bool:
        """Whether they are so far from the others that the interval may be too wide to fail."""
        return self.forecast.factor > GATE[1]


class Law:
    """All forms fitted to runs, ready to forecast.

    Attributes:
        runs: what was fitted. cells: indices of the runs of each cell.
        fits: form name -> fit. errors: form name -> relative error of a cell, times the square root
            of its runs.
        accepted: names of the forms that the runs do not reject.
        best: the one with the smallest error.
        seed_sd: relative standard deviation between seeds of one cell. seed_freedom: of how many
            differences; 0 where no cell has two seeds, and then it is the error about the law.
        cell_sd: of cells about the law, beyond what seeds explain.
    """

    def __init__(
        self, runs: Sequence[Run], robust: bool = False, samples: int = SAMPLES, seed: int = 0
    ) -> None:
        """Raises UserError if the runs cannot fix the law."""
        self.runs, self.cells = list(runs), cells_of(runs)
        self.fits = {form.name: fit(runs, form, robust) for form in FORMS}
        self.errors = {name: cell_error(each, self.cells) for name, each in self.fits.items()}
        self.accepted = accepted_forms(self.fits, self.cells)
        self.best = self.fits[min(self.errors, key=self.errors.__getitem__)]
        self._freedom = self.best.freedom_of(len(self.cells))
        error = self.errors[self.best.form.name]
        self.seed_sd, self.seed_freedom = seed_spread(runs)
        if not self.seed_freedom:
            self.seed_sd = error
        # A cell's mean of n runs varies by cell_sd^2 + seed_sd^2 / n; ``error`` is n times that.
        beyond = (error**2 - self.seed_sd**2) * len(self.cells) / len(self.runs)
        self.cell_sd = float(np.sqrt(max(0.0, beyond)))
        self._random = np.random.default_rng(seed)
        self._samples = self._refitted(samples)

    def forecast(
        self, params: float, size: float, seeds: int = 1, flops: float = 0.0, like: str = ""
    ) -> Forecast:
        """The mean of ``seeds`` runs with ``params`` weights on ``size`` bytes of text.

        Args:
            flops: of one of them, if they were counted. like: as in :class:`Forecast`.
        """
        value = self.best.predict(params, size)
        forms = {name: fitted.predict(params, size) for name, fitted in self.fits.items()}
        ratios = np.array([s.predict(params, size) for s in self._samples]) / value  # (S,)
        form_sd = self._form_spread(forms)
        seed_sd = self.seed_sd / np.sqrt(seeds)
        many = np.repeat(np.log(np.maximum(ratios, 1e-12)), DRAWS)  # (S DRAWS,)
        draw, shape = self._random, many.shape
        drawn = np.exp(
            many * self._widths(self._freedom, shape)
            + form_sd * draw.standard_normal(shape)
            + self.cell_sd * draw.standard_t(self._freedom, shape)
            + seed_sd * draw.standard_t(self.seed_freedom or self._freedom, shape)
        )  # (S DRAWS,)
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        counted = bool(flops) and all(run.flops for run in self.runs)
        return Forecast(
            params=params,
            bytes=size,
            bpb=value,
            # The median of the draws is not the fit itself, off which nearly exact runs hardly lie.
            low=float(value * min(low, 1.0)),
            high=float(value * max(high, 1.0)),
            factor=flops / max(run.flops for run in self.runs)
            if counted
            else params * size / max(run.work for run in self.runs),
            counted=counted,
            apart=max(
                outside(params, [run.params for run in self.runs]),
                outside(size, [run.bytes for run in self.runs]),
            ),
            run_sd=float(ratios.std()),
            form_sd=form_sd,
            cell_sd=self.cell_sd,
            seed_sd=float(seed_sd),
            forms=forms,
            like=like,
        )

    def _form_spread(self, forms: Mapping[str, float]) -> float:
        """Root mean square distance of the other forms from the best one, relative to it.

        A rejected form's is made smaller, by how much worse it fits: runs that reject a form where
        they are do not prove the one that is left right where they are not.
        """
        best = self.best.form.name
        apart = [
            (forms[name] / forms[best] - 1)
            * (1.0 if name in self.accepted else self.errors[best] / self.errors[name])
            for name in forms
            if name != best
        ]
        return float(np.sqrt(np.mean(np.square(apart))))

    def _widths(self, freedom: int, shape: tuple[int, ...]) -> np.ndarray:
        """Factors for a spread that was itself estimated, with so many degrees of freedom."""
        return np.sqrt(freedom / self._random.chisquare(freedom, shape))

    def _refitted(self, samples: int) -> list[Fit]:
        """The law on losses whose cells' residuals are drawn anew, widened for what the fit took
        up."""
        base, count = self.best, len(self.cells)
        residuals = cell_residuals(base, self.cells) * np.sqrt(count / self._freedom)  # (cells,)
        fitted = np.array([base.predict(run.params, run.bytes) for run in self.runs])  # (runs,)
        chosen = self._random.integers(count, size=(count, samples))  # (cells, S)
        drawn = (residuals - residuals.mean())[chosen]  # (cells, S)
        place = np.empty(len(self.runs), int)  # (runs,): the cell of each
        for number, members in enumerate(self.cells):
            place[members] = number
        return refit(self.runs, base, fitted[:, None] * (1 + drawn[place]))


def outside(value: float, known: Sequence[float]) -> float:
    """How many times a value lies below or above all known ones; 1 within them.

    >>> outside(5, [10, 20]), outside(12, [10, 20]), outside(60, [10, 20])
    (2.0, 1.0, 3.0)
    """
    return max(1.0, min(known) / value, value / max(known))


def cells_of(runs: Sequence[Run]) -> list[np.ndarray]:
    """Indices of the runs of each cell."""
    found: dict[tuple[float, float], list[int]] = {}
    for index, run in enumerate(runs):
        found.setdefault(run.cell, []).append(index)
    return [np.array(members) for members in found.values()]


def cell_residuals(fitted: Fit, cells: Sequence[np.ndarray]) -> np.ndarray:
    """Mean relative residual of each cell (cells,); robust weights count."""
    weighted = np.sqrt(fitted.weights) * fitted.residuals  # (runs,)
    return np.array([weighted[members].mean() for members in cells])


def cell_error(fitted: Fit, cells: Sequence[np.ndarray]) -> float:
    """Relative error of one run as the means of cells tell it, which seeds of a cell share."""
    squares = cell_residuals(fitted, cells) ** 2  # (cells,)
    total = sum(len(members) * each for members, each in zip(cells, squares, strict=True))
    return float(np.sqrt(total / fitted.freedom_of(len(cells))))


def accepted_forms(fits: Mapping[str, Fit], cells: Sequence[np.ndarray]) -> list[str]:
    """Forms off which cells do not lie further than off the best form, by more than chance."""
    best = min(fits.values(), key=lambda each: cell_error(each, cells))
    nearest = np.abs(cell_residuals(best, cells))  # (cells,)
    kept = []
    for name, each in fits.items():
        further = np.abs(cell_residuals(each, cells)) - nearest  # (cells,)
        if not further.any() or stats.wilcoxon(further, alternative="greater").pvalue > REJECTED:
            kept.append(name)
    return kept


def seed_spread(runs: Sequence[Run]) -> tuple[float, int]:
    """Relative standard deviation between seeds within cells, and its degrees of freedom."""
    cells: dict[tuple[float, float], list[float]] = {}
    for run in runs:
        cells.setdefault(run.cell, []).append(np.log(run.bpb))
    squares = sum(len(v) * np.var(v) for v in cells.values() if len(v) > 1)
    freedom = sum(len(v) - 1 for v in cells.values())
    return (float(np.sqrt(squares / freedom)) if freedom else 0.0), freedom


def try_out(runs: Sequence[Run], robust: bool = False, samples: int = SAMPLES) -> Gate | None:
    """Forecast the largest cell from the others; None if those alone cannot fix the law."""
    largest = max(runs, key=lambda run: run.work).cell
    held = [run for run in runs if run.cell == largest]
    others = [run for run in runs if run.cell != largest]
    try:
        law = Law(others, robust, samples)
    except UserError:
        return None
    params, size, bpb, flops = (
        float(np.mean([getattr(run, name) for run in held]))
        for name in ("params", "bytes", "bpb", "flops")
    )
    return Gate(law.forecast(params, size, len(held), flops), bpb, len(held))
