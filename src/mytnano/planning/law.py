"""Laws of loss against size and data, fitted by variable projection.

Three forms, in bits per byte, for N weights (matrices and head) and D bytes of text:

* ``additive``     L = E + A N^-alpha + B D^-beta  (Hoffmann et al. 2022)
* ``interacting``  the same, and C N^-alpha D^-beta: size and data may help each other
* ``coupled``      L = (A N^-a + B / D)^g, without a floor  (Kaplan et al. 2020, equation 1.5)

Each is linear in its coefficients once two exponents are given. So the exponents are searched in
two dimensions and the coefficients solved for, nonnegative, at each point (variable projection,
Golub & Pereyra 1973), which is free of the early stops that spoilt the first published fit
(Besiroglu et al. 2024). Residuals are relative, so a percent counts alike at every loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from mytnano.errors import UserError
from mytnano.words import rounded

SAME_LOSS = 1e-6
FEWEST_RUNS = 8
FEWEST_CELLS = 6
"""One more than the law has numbers: seeds of a cell repeat what it says of the law."""

FEWEST_VALUES = 3
SMALLEST_SPAN = 3.0
"""The largest size over the smallest one, and likewise the data."""

COLLINEAR = 0.98
"""Correlation of log size and log data beyond which nobody can tell which of them it was."""

POINTS = 13
"""Exponents tried in each dimension, before the best point is refined."""

REFINEMENTS = 10
SAMPLE_POINTS, SAMPLE_SPAN = 11, 1.2
"""The same for a sample of losses, whose exponents are looked for within a factor of e^1.2 of those
of the runs at first, and then around the best point."""

ZOOMS = 3
"""Grids of samples, each around where the best points of all samples lay on the one before: in a
narrow, bent valley those on the first one alone gave forecasts that were 1 % off."""

HUBER = 1.345
"""Residuals beyond so many (robust) standard deviations count linearly, where that is asked for."""


@dataclass(frozen=True)
class Run:
    """One finished run: N weights, D bytes, bits per byte on held-out text, and its seed.

    ``flops`` are those of its training, 0 where nobody counted them.
    """

    params: float
    bytes: float
    bpb: float
    seed: str = ""
    flops: float = 0.0

    @property
    def cell(self) -> tuple[float, float]:
        """Runs of one cell differ in nothing but the seed: N and D to three digits."""
        return rounded(self.params), rounded(self.bytes)

    @property
    def work(self) -> float:
        """In proportion to compute."""
        return self.params * self.bytes


@dataclass(frozen=True)
class Form:
    """A law: a sum of terms ``c N^-p D^-q``, raised to a power.

    Attributes:
        names: of the coefficients, then of the two exponents.
        ranges: of the exponents.
        powers: exponents -> (p, q) of each term.
        power: exponents -> what the sum is raised to.
    """

    name: str
    formula: str
    names: tuple[str, ...]
    ranges: tuple[tuple[float, float], tuple[float, float]]
    powers: Callable[[np.ndarray], list[tuple[float, float]]]
    power: Callable[[np.ndarray], float]

    def columns(self, n: np.ndarray, d: np.ndarray, exponents: np.ndarray) -> np.ndarray:
        """The terms without their coefficients, (runs, terms)."""
        return np.stack([n**-p * d**-q for p, q in self.powers(exponents)], axis=-1)


ADDITIVE = Form(
    "additive",
    "E + A N^-alpha + B D^-beta",
    ("E", "A", "B", "alpha", "beta"),
    ((0.02, 2.0), (0.02, 2.0)),
    lambda e: [(0, 0), (e[0], 0), (0, e[1])],
    lambda e: 1.0,
)

INTERACTING = Form(
    "interacting",
    "E + A N^-alpha + B D^-beta + C N^-alpha D^-beta",
    ("E", "A", "B", "C", "alpha", "beta"),
    ((0.02, 2.0), (0.02, 2.0)),
    lambda e: [(0, 0), (e[0], 0), (0, e[1]), (e[0], e[1])],
    lambda e: 1.0,
)

COUPLED = Form(
    "coupled",
    "(A N^-a + B / D)^g",
    ("A", "B", "a", "g"),
    ((0.05, 8.0), (0.02, 1.0)),
    lambda e: [(e[0], 0), (0, 1)],
    lambda e: e[1],
)

FORMS = (ADDITIVE, INTERACTING, COUPLED)
"""The one that fits best is reported; the others tell how much the form matters."""


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
        exponents: (2,). coefficients: of the columns of N and D relative to ``scales``.
        scales: what N and D are divided by.
        residuals: (runs,) relative: observed over fitted, minus one.
        weights: (runs,) of the robust fit, else ones.
    """

    form: Form
    exponents: np.ndarray
    coefficients: np.ndarray
    scales: tuple[float, float]
    residuals: np.ndarray
    weights: np.ndarray

    def predict(self, params: float, size: float) -> float:
        """Bits per byte of a run with ``params`` weights on ``size`` bytes."""
        n, d = np.array([params / self.scales[0]]), np.array([size / self.scales[1]])
        total = self.form.columns(n, d, self.exponents) @ self.coefficients
        return float(total[0] ** self.form.power(self.exponents))

    @property
    def parameters(self) -> dict[str, float]:
        """Coefficients in the units of N and D themselves, and exponents, by name."""
        units = [self.scales[0] ** p * self.scales[1] ** q for p, q in self._powers]
        values = [*(self.coefficients * units), *self.exponents]
        return {name: float(value) for name, value in zip(self.form.names, values, strict=True)}

    @property
    def _powers(self) -> list[tuple[float, float]]:
        return self.form.powers(self.exponents)

    @property
    def edges(self) -> list[str]:
        """Exponents at the edge of their range, which the runs therefore do not tell."""
        return [
            name
            for name, value, (low, high) in zip(
                self.form.names[-2:], self.exponents, self.form.ranges, strict=True
            )
            if value < low * 1.05 or value > high / 1.05
        ]

    def freedom_of(self, count: int) -> int:
        """Degrees of freedom that ``count`` independent values leave it, at least one."""
        return max(1, count - len(self.form.names))

    @property
    def freedom(self) -> int:
        """Those of the runs."""
        return self.freedom_of(len(self.residuals))

    @property
    def error(self) -> float:
        """Relative standard error of a run about the law."""
        return float(np.sqrt((self.weights * self.residuals**2).sum() / self.freedom))


def check_design(runs: Sequence[Run]) -> None:
    """Whether these runs can tell the law's parts from each other.

    Raises:
        UserError: they cannot; the sentence says what is missing.
    """
    if len(runs) < FEWEST_RUNS:
        count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        raise UserError(f"{count} cannot fix a law: give at least {FEWEST_RUNS}")
    cells = {run.cell for run in runs}
    for place, name in enumerate(("sizes", "budgets")):
        values = {cell[place] for cell in cells}
        unlike = len(values)
        if unlike < FEWEST_VALUES or max(values) / min(values) < SMALLEST_SPAN:
            raise UserError(
                f"the runs have {unlike} {name} that span a factor of "
                f"{max(values) / min(values):.2g}: the law needs at least {FEWEST_VALUES} that "
                f"span {SMALLEST_SPAN:g}"
            )
    n, d = (np.log([getattr(run, name) for run in runs]) for name in ("params", "bytes"))
    if abs(np.corrcoef(n, d)[0, 1]) > COLLINEAR:
        raise UserError(
            "size and data grow together in these runs, so it cannot be determined which of them "
            "lowers the loss: train some sizes on several budgets"
        )
    if len(cells) < FEWEST_CELLS:
        raise UserError(
            f"the runs are {len(cells)} pairs of a size and a budget, and more seeds of those tell "
            f"nothing more of the law: give at least {FEWEST_CELLS} pairs"
        )


def fit(runs: Sequence[Run], form: Form = ADDITIVE, robust: bool = False) -> Fit:
    """Least squares of relative residuals; ``robust`` weighs outliers as Huber does.

    Raises:
        UserError: the runs cannot fix the law.
    """
    check_design(runs)
    if max(run.bpb for run in runs) - min(run.bpb for run in runs) <= SAME_LOSS:
        raise UserError(
            "all runs have the same bits per byte, so neither size nor data can be seen to lower it"
        )
    data = _Data.of(runs)
    weights = np.ones(len(runs))
    found = data.solve(form, data.loss, weights)
    for _ in range(20 if robust else 0):
        spread = 1.4826 * np.median(np.abs(found.residuals)) + 1e-12
        new = np.minimum(1, HUBER * spread / np.maximum(np.abs(found.residuals), 1e-12))
        if np.allclose(new, weights, atol=1e-3):
            break
        weights = new
        found = data.solve(form, data.loss, weights)
    return found


def refit(runs: Sequence[Run], base: Fit, losses: np.ndarray) -> list[Fit]:
    """The law fitted to other losses (runs, samples) of the same runs, as ``base`` was."""
    return _Data.of(runs).solve_near(base, losses)


RING = [move for move in itertools.product((-1, 0, 1), repeat=2) if any(move)]


@dataclass(frozen=True)
class _Data:
    n: np.ndarray  # (runs,)
    d: np.ndarray  # (runs,)
    loss: np.ndarray  # (runs,)
    scales: tuple[float, float]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> _Data:
        n, d = (np.array([getattr(run, name) for run in runs]) for name in ("params", "bytes"))
        scales = tuple(float(np.exp(np.log(values).mean())) for values in (n, d))
        return cls(n / scales[0], d / scales[1], np.array([r.bpb for r in runs]), scales)

    def solve(self, form: Form, loss: np.ndarray, weights: np.ndarray) -> Fit:
        """The fit of ``loss`` (runs,): on a grid, then on ever smaller rings around the best."""
        low, high = (np.log([r[i] for r in form.ranges]) for i in (0, 1))
        axes = [np.linspace(low[i], high[i], POINTS) for i in (0, 1)]
        errors = self._grid(form, axes, loss[:, None], weights)[..., 0]  # (G, G)
        best = np.unravel_index(errors.argmin(), errors.shape)
        place = np.array([axes[i][best[i]] for i in (0, 1)])
        found, error = self._exact(form, np.exp(place), loss, weights)
        step = np.array([axis[1] - axis[0] for axis in axes])
        for _ in range(REFINEMENTS):
            step = step / 2
            moved = True
            while moved:
                moved = False
                for move in RING:
                    trial = np.clip(place + step * move, low, high)
                    other, trial_error = self._exact(form, np.exp(trial), loss, weights)
                    if trial_error < error * (1 - 1e-9):
                        found, error, place, moved = other, trial_error, trial, True
        return found

    def solve_near(self, base: Fit, losses: np.ndarray) -> list[Fit]:
        """The fit of each sample (column) of ``losses`` (runs, S), all on the same grids."""
        low, high = (np.log([r[i] for r in base.form.ranges]) for i in (0, 1))
        offsets = np.linspace(-SAMPLE_SPAN, SAMPLE_SPAN, SAMPLE_POINTS)
        axes = [np.log(base.exponents[i]) + offsets for i in (0, 1)]
        for _ in range(ZOOMS):
            errors = self._grid(base.form, axes, losses, base.weights)  # (G, G, S)
            places = np.array([lowest(axes, each) for each in np.moveaxis(errors, -1, 0)])  # (S, 2)
            margins = [axis[1] - axis[0] for axis in axes]
            axes = [
                np.linspace(place.min() - margin, place.max() + margin, SAMPLE_POINTS)
                for place, margin in zip(places.T, margins, strict=True)
            ]
        exponents = np.exp(np.clip(places, low, high))  # (S, 2)
        return [
            self._exact(base.form, each, losses[:, sample], base.weights)[0]
            for sample, each in enumerate(exponents)
        ]

    def _grid(
        self, form: Form, axes: list[np.ndarray], losses: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Squared errors at each pair of (log) exponents, for each sample: (G, G, S)."""
        return np.array(
            [
                [self._errors(form, np.exp([a, b]), losses, weights) for b in axes[1]]
                for a in axes[0]
            ]
        )

    def _weighted(
        self, form: Form, exponents: np.ndarray, losses: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Columns (runs, k), targets and weights (runs, S) whose differences are relative."""
        power = form.power(exponents)
        target = losses ** (1 / power)  # (runs, S)
        # To first order a relative change of the loss is ``power`` times the target's.
        scale = np.sqrt(weights)[:, None] * power / target  # (runs, S)
        return form.columns(self.n, self.d, exponents), target, scale

    def _errors(
        self, form: Form, exponents: np.ndarray, losses: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Squared error of each sample (S,) with the best nonnegative coefficients."""
        columns, target, scale = self._weighted(form, exponents, losses, weights)
        # Weights of the first sample for all: samples differ by noise, and one matrix serves.
        scale = scale.mean(axis=1)  # (runs,)
        wide, goal = columns * scale[:, None], target * scale[:, None]
        best = np.full(losses.shape[1], np.inf)  # (S,)
        width = wide.shape[1]
        for size in range(width, 0, -1):
            for chosen in itertools.combinations(range(width), size):
                part = wide[:, chosen]
                found = np.linalg.lstsq(part, goal, rcond=None)[0]  # (size, S)
                errors = ((goal - part @ found) ** 2).sum(axis=0)
                errors[(found < 0).any(axis=0)] = np.inf
                best = np.minimum(best, errors)
            if np.isfinite(best).all():
                break
        return best

    def _exact(
        self, form: Form, exponents: np.ndarray, loss: np.ndarray, weights: np.ndarray
    ) -> tuple[Fit, float]:
        columns, target, scale = self._weighted(form, exponents, loss[:, None], weights)
        coefficients, _ = nnls(columns * scale, target[:, 0] * scale[:, 0])
        fitted = (columns @ coefficients) ** form.power(exponents)  # (runs,)
        residuals = loss / np.maximum(fitted, 1e-12) - 1
        error = float((weights * (fitted / loss - 1) ** 2).sum())
        made = Fit(form, exponents, coefficients, self.scales, residuals, weights)
        return made, error


def lowest(axes: list[np.ndarray], errors: np.ndarray) -> np.ndarray:
    """Where a paraboloid through the lowest point of a grid and its neighbours is lowest, (2,).

    At the border of the grid, or where the neighbours bend the wrong way, the point itself.
    """
    i, j = np.unravel_index(errors.argmin(), errors.shape)
    place = np.array([axes[0][i], axes[1][j]])
    if not (0 < i < errors.shape[0] - 1 and 0 < j < errors.shape[1] - 1):
        return place
    near = errors[i - 1 : i + 2, j - 1 : j + 2]  # (3, 3)
    slope = np.array([near[2, 1] - near[0, 1], near[1, 2] - near[1, 0]]) / 2
    cross = (near[2, 2] - near[2, 0] - near[0, 2] + near[0, 0]) / 4
    bend = np.array(
        [
            [near[2, 1] - 2 * near[1, 1] + near[0, 1], cross],
            [cross, near[1, 2] - 2 * near[1, 1] + near[1, 0]],
        ]
    )
    if not np.isfinite(near).all() or np.linalg.eigvalsh(bend).min() <= 0:
        return place
    step = np.array([axis[1] - axis[0] for axis in axes])
    return place - step * np.clip(np.linalg.solve(bend, slope), -1, 1)
