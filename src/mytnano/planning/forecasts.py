"""From runs to what is forecast of them: the law, its trial, the run that is asked about."""

from __future__ import annotations

from collections.abc import Sequence

from mytnano.designs.scale import MYTLLM_1B
from mytnano.designs.settings import amount
from mytnano.measure.memory_plan import count_weights
from mytnano.planning.interval import SAMPLES, Forecast, Gate, Law, try_out
from mytnano.planning.law import Run


def target(params: str | None, size: str) -> tuple[float, float]:
    """(N, D) that a forecast is asked for; N is that of ``mytllm-1b`` if not given.

    Raises:
        UserError: one of them is not a number above zero.
    """
    if params is None:
        weights = count_weights(MYTLLM_1B.model)
        return float(weights.hidden + weights.head), float(amount(size, "--bytes"))
    return float(amount(params, "--params")), float(amount(size, "--bytes"))


def conclude(
    runs: Sequence[Run], wanted: tuple[float, float], robust: bool = False, samples: int = SAMPLES
) -> tuple[Law, Gate | None, list[Forecast]]:
    """The law of all runs, the trial on the largest, and two forecasts.

    Those are of four times the largest run, in size and text alike, and of ``wanted``.

    Raises:
        UserError: the runs cannot fix the law.
    """
    law = Law(runs, robust, samples)
    gate = try_out(runs, robust, samples)
    largest = max(runs, key=lambda run: run.work)
    near = law.forecast(2 * largest.params, 2 * largest.bytes)
    return law, gate, [near, law.forecast(*wanted)]
