"""An effect as compute: how much more or less of it the baseline needs for the same loss.

The baseline is run at several amounts of compute. Between them its loss is interpolated, both in
logarithms, by a curve that is monotone (PCHIP, Fritsch & Carlson 1980); beyond them nothing is
claimed. Where noise makes the measured losses rise with compute, they are first replaced by the
nearest losses that do not (isotonic regression, pool adjacent violators).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

from mytnano.errors import UserError
from mytnano.stats.differences import Array

ROUGH = 0.1
"""Share of the curve's whole fall by which a loss may be moved to make the curve monotone."""


@dataclass(frozen=True)
class Multiplier:
    """The baseline's compute at an arm's loss over the compute that the arm spent.

    Attributes:
        value: above 1 if the arm saves compute.
        beyond: ``>`` or ``<`` if the arm's loss lies outside of what the baseline reaches, and
            ``value`` is only the end of what was measured; else empty.
        pooled: whether the baseline's losses had to be made monotone.
    """

    value: float
    beyond: str = ""
    pooled: bool = False

    def __str__(self) -> str:
        inverse = 1 / self.value
        whole = inverse > 1.5 and abs(inverse - round(inverse)) < 0.005 * inverse and self.beyond
        text = f"1/{round(inverse)}x" if whole else f"{self.value:.3g}x"
        return f"{self.beyond} {text}" if self.beyond else text


def compute_multiplier(
    compute: Sequence[float], losses: Sequence[float], loss: float, spent: float
) -> Multiplier:
    """The compute multiplier of a loss.

    Args:
        compute: amounts at which the baseline was run, in any unit, each once.
        losses: the baseline's loss at each; lower is better.
        loss: the arm's.
        spent: the arm's compute.

    Raises:
        UserError: fewer than two amounts, a value that is not positive, or losses that do not fall
            with compute.
    """
    x, y, pooled = _monotone(compute, losses)
    log_loss = float(np.log(loss))
    if log_loss < y[-1]:
        return Multiplier(float(np.exp(x[-1])) / spent, ">", pooled)
    if log_loss > y[0]:
        return Multiplier(float(np.exp(x[0])) / spent, "<", pooled)
    log_compute = PchipInterpolator(y[::-1], x[::-1])(log_loss)
    return Multiplier(float(np.exp(log_compute)) / spent, "", pooled)


def loss_at(compute: Sequence[float], losses: Sequence[float], amount: float) -> float:
    """The baseline's loss at an amount of compute, interpolated as for multipliers.

    Raises:
        UserError: as for :func:`compute_multiplier`, or the amount is outside of those measured.
    """
    x, y, _ = _monotone(compute, losses)
    if not min(compute) <= amount <= max(compute):
        raise UserError(
            "the amount of compute is outside of those at which the baseline was run; run it there"
        )
    within = np.clip(np.log(amount), x[0], x[-1])  # a pooled end is level as far as it was measured
    return float(np.exp(PchipInterpolator(x, y)(within)))


def _monotone(compute: npt.ArrayLike, losses: npt.ArrayLike) -> tuple[Array, Array, bool]:
    """Logarithms of compute, rising, and of the losses, falling; whether any had to be moved."""
    amounts, measured = np.asarray(compute, np.float64), np.asarray(losses, np.float64)
    values = np.concatenate([amounts, measured])
    if amounts.size < 2 or not (np.isfinite(values) & (values > 0)).all():
        raise UserError(
            "a compute multiplier needs the baseline's positive losses at two amounts of compute; "
            "run the baseline at more"
        )
    order = np.argsort(amounts)
    x, y = np.log(amounts[order]), np.log(measured[order])
    fitted = isotonic_regression(y, increasing=False)
    fall = fitted.x[0] - fitted.x[-1]
    if np.abs(fitted.x - y).max() > ROUGH * fall or fall <= 0:
        raise UserError(
            "the baseline's loss does not fall with compute, so it has no compute multiplier; "
            "run the baseline with more seeds, or tune it at each amount of compute"
        )
    # A pooled block is one loss at several amounts; its middle stands for it.
    starts = fitted.blocks[:-1]
    sizes = np.diff(fitted.blocks)
    return np.add.reduceat(x, starts) / sizes, fitted.x[starts], bool((sizes > 1).any())
