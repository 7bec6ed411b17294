"""What a law says of a run that was not made, and how far that can be trusted.

The interval adds three independent errors, each drawn a few hundred times:

* runs: the law fitted again to losses whose residuals were drawn anew from those of all runs;
* form: the spread of the predictions of those forms that the runs do not reject;
* seed: what one run differs from another by its seed alone.

It is tried out on the largest runs, which are left out of the fit for that (the gate). Further than
``CALIBRATED`` times the compute of the runs nobody has tried it out, and it is marked so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mytnano.errors import UserError
from mytnano.planning.law import ADDITIVE, FORMS, Fit, Run, fit, refit

LEVEL = 0.9
SAMPLES = 400
DRAWS = 20
"""Draws of the other errors for each sample."""

CALIBRATED = 100.0
"""Times the compute of the largest run; beyond it a forecast is not calibrated."""

GATE = (4.0, 8.0)
"""Times the compute of the other runs that the held-out ones should have."""

REJECTED = 0.01
"""A form is rejected if an F test finds its errors larger than the best form's at this level."""


@dataclass(frozen=True)
class Forecast:
    """A prediction of one run's bits per byte.

    Attributes:
        params, bytes: N and D of the run.
        bpb: what the additive law says. low, high: of the 90 % interval.
        factor: its compute over that of the largest run that was fitted.
        run_sd, form_sd, seed_sd: relative standard deviations of the three errors.
        forms: what each form says.
    """

    params: float
    bytes: float
    bpb: float
    low: float
    high: float
    factor: float
    run_sd: float
    form_sd: float
    seed_sd: float
    forms: dict[str, float]

    @property
    def calibrated(self) -> bool:
        return self.factor <= CALIBRATED


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
        return self.forecast.low <= self.observed <= self.forecast.high

    @property
    def weak(self) -> bool:
        """Whether the held-out runs are too near the others to try much."""
        return self.forecast.factor < GATE[0]


class Law:
    """All forms fitted to runs, ready to forecast.

    Attributes:
        runs: what was fitted.
        fits: form name -> fit.
        accepted: names of the forms that the runs do not reject.
        seed_sd: relative standard deviation between seeds of one cell. seed_freedom: of how many
            differences; 0 where no cell has two seeds, and then it is the error about the law.
    """

    def __init__(
        self, runs: Sequence[Run], robust: bool = False, samples: int = SAMPLES, seed: int = 0
    ) -> None:
        """Raises UserError if the runs cannot fix the law."""
        self.runs = list(runs)
        self.fits = {form.name: fit(runs, form, robust) for form in FORMS}
        self.accepted = accepted_forms(self.fits)
        self.seed_sd, self.seed_freedom = seed_spread(runs)
        if not self.seed_freedom:
            self.seed_sd = self.best.error
        self._random = np.random.default_rng(seed)
        self._samples = self._refitted(samples)

    @property
    def best(self) -> Fit:
        return self.fits[ADDITIVE.name]

    def forecast(self, params: float, size: float, seeds: int = 1) -> Forecast:
        """The mean of ``seeds`` runs with ``params`` weights on ``size`` bytes of text."""
        value = self.best.predict(params, size)
        forms = {name: fitted.predict(params, size) for name, fitted in self.fits.items()}
        ratios = np.array([s.predict(params, size) for s in self._samples]) / value  # (S,)
        kept = [forms[name] / value for name in self.accepted]
        form_sd = float(np.std(kept, ddof=1)) if len(kept) > 1 else 0.0
        seed_sd = self.seed_sd / np.sqrt(seeds)
        many = np.repeat(ratios, DRAWS)  # (S DRAWS,)
        freedom = self.seed_freedom or self.best.freedom
        drawn = (
            1
            + (many - 1) * self._widths(self.best.freedom, many.shape)
            + form_sd * self._random.standard_normal(many.shape)
            + seed_sd * self._random.standard_t(freedom, many.shape)
        )  # (S DRAWS,)
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Forecast(
            params=params,
            bytes=size,
            bpb=value,
            low=float(value * low),
            high=float(value * high),
            factor=params * size / max(run.work for run in self.runs),
            run_sd=float(ratios.std()),
            form_sd=form_sd,
            seed_sd=float(seed_sd),
            forms=forms,
        )

    def _widths(self, freedom: int, shape: tuple[int, ...]) -> np.ndarray:
        """Factors for a spread that was itself estimated, with so many degrees of freedom."""
        return np.sqrt(freedom / self._random.chisquare(freedom, shape))

    def _refitted(self, samples: int) -> list[Fit]:
        """The law on losses with residuals drawn anew, widened for what the fit took up."""
        base, count = self.best, len(self.runs)
        residuals = (
            np.sqrt(base.weights) * base.residuals * np.sqrt(count / base.freedom)
        )  # (runs,)
        fitted = np.array([base.predict(run.params, run.bytes) for run in self.runs])  # (runs,)
        chosen = self._random.integers(count, size=(count, samples))  # (runs, S)
        losses = fitted[:, None] * (1 + (residuals - residuals.mean())[chosen])  # (runs, S)
        return refit(self.runs, base, losses)


def accepted_forms(fits: dict[str, Fit]) -> list[str]:
    """Forms whose errors are not larger than the best form's by more than chance allows."""
    best = min(fits.values(), key=lambda f: f.error)
    kept = []
    for name, each in fits.items():
        ratio = (each.error / max(best.error, 1e-12)) ** 2
        if ratio <= stats.f.isf(REJECTED, each.freedom, best.freedom):
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


def try_out(
    runs: Sequence[Run], robust: bool = False, samples: int = SAMPLES, seed: int = 0
) -> Gate | None:
    """Forecast the largest cell from the others; None if those alone cannot fix the law."""
    largest = max(runs, key=lambda run: run.work).cell
    held = [run for run in runs if run.cell == largest]
    others = [run for run in runs if run.cell != largest]
    try:
        law = Law(others, robust, samples, seed)
    except UserError:
        return None
    means = [float(np.mean([getattr(run, n) for run in held])) for n in ("params", "bytes", "bpb")]
    return Gate(law.forecast(*means[:2], seeds=len(held)), means[2], len(held))
