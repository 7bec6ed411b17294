"""From runs to what is forecast of them: the law, its trial, the run that is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mytnano.designs.scale import MYTLLM_1B
from mytnano.designs.settings import amount
from mytnano.measure.memory_plan import count_weights
from mytnano.planning.interval import SAMPLES, Forecast, Gate, Law, try_out
from mytnano.planning.law import Run
from mytnano.training.matching import run_flops


@dataclass(frozen=True)
class Target:
    """What a forecast is asked for.

    Attributes:
        params, bytes: N and D.
        like: the design that N is of; a forecast is still of the runs' own design.
        flops: that design would take, as its tokens hold another number of bytes; 0 without one.
    """

    params: float
    bytes: float
    like: str = ""
    flops: float = 0.0


def target(params: str | None, size: str) -> Target:
    """N and D from words; N is that of ``mytllm-1b`` if not given.

    Raises:
        UserError: one of them is not a number above zero.
    """
    count = amount(size, "--bytes")
    if params is not None:
        return Target(float(amount(params, "--params")), float(count))
    weights = count_weights(MYTLLM_1B.model)
    flops = run_flops(MYTLLM_1B.but(train={"train_bytes": count}))
    return Target(float(weights.hidden + weights.head), float(count), "mytllm-1b", flops)


def conclude(
    runs: Sequence[Run], wanted: Target, robust: bool = False, samples: int = SAMPLES
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
    far = law.forecast(wanted.params, wanted.bytes, flops=wanted.flops, like=wanted.like)
    return law, gate, [near, far]
